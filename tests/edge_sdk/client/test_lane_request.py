"""A request that is kept: what it fits, and what it believes of an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_sdk.base import FormatError
from edge_sdk.client.lane_request import LaneInput, LaneRequest, key_of, places_of, view_of
from edge_sdk.client.wire_tensors import encode_texts
from edge_sdk.fastlane import Answer, Infer, Place, encode

WHAT = ("team/m", "", ())
ONES = np.ones((2, 3), np.float32)
SLOT_BYTES = 4096


@pytest.fixture
def slot() -> memoryview:
    return memoryview(bytearray(SLOT_BYTES))


def made(slot: memoryview, **arrays: np.ndarray[Any, Any]) -> LaneRequest:
    given = [LaneInput(name=n, dtype=a.dtype.name, array=a) for n, a in arrays.items()]
    places = places_of(given, {}, begin=64)
    packet = encode(Infer(model="team/m", version="", inputs=places))
    return LaneRequest(WHAT, packet, slot, given, places)


def test_inputs_that_fit_are_laid(slot: memoryview) -> None:
    """One after the other, each at a multiple of 64; strided ones too."""
    request = made(slot, x=ONES, n=np.arange(4))
    assert request.fits({"n": np.arange(8)[::2], "x": 2 * ONES})
    assert slot[64 : 64 + 24] == (2 * ONES).tobytes()
    assert slot[128 : 128 + 32] == np.arange(0, 8, 2).tobytes()


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": ONES, "y": ONES},
        {"y": ONES},
        {"x": ONES.tolist()},
        {"x": ONES[:1]},
        {"x": ONES[0]},
        {"x": ONES.astype(np.float64)},
        {"x": ONES.astype(np.dtype(np.float32).newbyteorder())},
    ],
    ids=lambda inputs: " ".join(f"{n} {getattr(a, 'dtype', '')}" for n, a in inputs.items()),
)
def test_no_others_fit(slot: memoryview, inputs: dict[str, Any]) -> None:
    """NumPy would broadcast or convert: only the same names, shapes and types are the same."""
    assert not made(slot, x=ONES).fits(inputs)


def test_equal_requests_have_equal_keys() -> None:
    """By what is asked and the inputs' names, shapes and types, not by their values."""
    key = key_of(WHAT, {"x": ONES})
    assert key == key_of(("team/m", "", ()), {"x": 5 * ONES})
    others = [{"x": ONES[:1]}, {"y": ONES}, {"x": ONES.astype(np.int32)}, {"x": ONES, "y": ONES}]
    assert key not in [key_of(WHAT, one) for one in others]
    assert key != key_of(("team/m", "1.0.0", ()), {"x": ONES})
    assert key_of(WHAT, {"x": [1]}) is None


def place(**changed: Any) -> Place:
    whole = {"name": "y", "dtype": "uint8", "shape": (8,), "offset": 0, "size_bytes": 8}
    return Place(**{**whole, **changed})


def test_results_are_copies_and_views_are_not(slot: memoryview) -> None:
    """Views are the same as long as the answers are, and nobody can write to them."""
    request = made(slot, x=ONES)
    request.learn(Answer(version="1.0.0", outputs=(place(),)), b"tail", slot)
    copies, views = request.result(), request.views()
    slot[0] = 7
    assert copies.outputs["y"][0] == 0
    assert views.outputs["y"][0] == 7
    assert request.views() is views
    with pytest.raises(ValueError, match="read-only"):
        views.outputs["y"][0] = 1
    request.learn(Answer(version="2.0.0", outputs=(place(),)), b"other", slot)
    assert request.views().version == "2.0.0"
    assert (request.answer_tail, request.answer_bytes, request.outputs_end) == (b"other", 13, 8)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(version="", outputs=(place(dtype="string", shape=(1,), size_bytes=5),)),
        Answer(version="", outputs=(place(),), new_slot_bytes=SLOT_BYTES),
    ],
    ids=["text", "a new slot"],
)
def test_some_answers_are_read_each_time(slot: memoryview, answer: Answer) -> None:
    """Those whose bytes do not say what they said before."""
    slot[:5] = encode_texts(["a"])
    request = made(slot, x=ONES)
    request.learn(answer, b"tail", slot)
    assert request.answer_bytes == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": SLOT_BYTES},
        {"offset": SLOT_BYTES - 64, "shape": (65,), "size_bytes": 65},
        {"dtype": "string", "shape": (2,), "size_bytes": 4},
        {"dtype": "string", "shape": (1,), "size_bytes": 3},
    ],
    ids=str,
)
def test_an_output_that_is_not_there_is_refused(slot: memoryview, wrong: dict[str, Any]) -> None:
    """Beyond the slot, or texts that are none."""
    with pytest.raises(FormatError, match="y"):
        made(slot, x=ONES).learn(Answer(version="", outputs=(place(**wrong),)), b"", slot)


def test_bit_patterns_take_the_apps_type(slot: memoryview) -> None:
    """bfloat16 is laid as what the app gives, and comes back as bits."""
    bits = place(dtype="bfloat16", shape=(4,))
    assert view_of(slot, bits, None).dtype == np.uint16
    assert view_of(slot, bits, np.dtype(np.uint16)).dtype == np.uint16
