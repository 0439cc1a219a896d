"""Packets: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import FormatError
from edge_sdk.fastlane import (
    DTYPE_CODES,
    PACKET_BYTES_MAX,
    Answer,
    Elsewhere,
    Failure,
    Hello,
    Infer,
    Packet,
    Place,
    Resize,
    SlotGiven,
    Take,
    decode,
    encode,
)

NUMBERS = st.integers(0, 2**32 - 1)
SIZES = st.integers(0, 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def places(draw: st.DrawFn) -> Place:
    dtype = draw(st.sampled_from(sorted(DTYPE_CODES)))
    shape = tuple(draw(st.lists(st.integers(0, 1000), max_size=5)))
    size = DTYPE_CODES[dtype][1]
    return Place(
        name=draw(TEXTS),
        dtype=dtype,
        shape=shape,
        offset=64 * draw(st.integers(0, 1 << 40)),
        size_bytes=math.prod(shape) * size if size else draw(st.integers(0, 1 << 40)),
    )


@st.composite
def sequences(draw: st.DrawFn) -> dict[str, Any]:
    if not (number := draw(st.integers(0, 2**63 - 1))):
        return {}
    start, end = draw(st.tuples(st.booleans(), st.booleans()))
    return {"sequence": number, "sequence_start": start, "sequence_end": end}


@st.composite
def infers(draw: st.DrawFn) -> Infer:
    return Infer(
        model=draw(TEXTS),
        version=draw(TEXTS),
        inputs=tuple(draw(st.lists(places(), max_size=4))),
        outputs=tuple(draw(st.lists(TEXTS, max_size=4))),
        timeout_us=draw(SIZES),
        priority=draw(st.integers(0, 3)),
        request=draw(NUMBERS),
        **draw(sequences()),
    )


PACKETS: st.SearchStrategy[Packet] = st.one_of(
    st.builds(Hello, version=st.integers(0, 65535), slot_bytes=SIZES, request=NUMBERS),
    st.builds(Resize, slot_bytes=SIZES, request=NUMBERS),
    infers(),
    st.builds(Take, request=NUMBERS),
    st.builds(SlotGiven, slot_bytes=SIZES, request=NUMBERS),
    st.builds(
        Answer,
        version=TEXTS,
        outputs=st.lists(places(), max_size=4).map(tuple),
        new_slot_bytes=SIZES,
        request=NUMBERS,
    ),
    st.builds(
        Failure,
        reason=TEXTS,
        status=TEXTS,
        message=TEXTS,
        facts=st.dictionaries(TEXTS, TEXTS, max_size=4),
        request=NUMBERS,
    ),
    st.builds(Elsewhere, message=TEXTS, request=NUMBERS),
)


def only_format_error(data: bytes) -> None:
    """What decodes is exactly what its value encodes to."""
    try:
        packet = decode(data)
    except FormatError:
        return
    assert encode(packet) == data


@given(PACKETS)
def test_every_packet_comes_back(packet: Packet) -> None:
    """Encoding and decoding gives the same value."""
    assert decode(encode(packet)) == packet


@given(PACKETS, st.data())
def test_a_cut_packet_is_refused(packet: Packet, data: st.DataObject) -> None:
    """No beginning of a packet is a packet, and nothing may follow one."""
    whole = encode(packet)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:cut], whole + b"\0"):
        with pytest.raises(FormatError):
            decode(wrong)


@given(PACKETS, st.data())
def test_a_changed_packet_is_refused_or_another(packet: Packet, data: st.DataObject) -> None:
    """One changed byte gives FormatError or another valid packet, never two spellings of one."""
    whole = bytearray(encode(packet))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    only_format_error(bytes(whole))


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    """Bytes of any kind raise nothing but FormatError."""
    only_format_error(data)


@given(st.sampled_from([1, 2, 3, 4, 129, 130, 131, 132]), st.binary(max_size=200))
def test_noise_behind_a_header_is_refused(kind: int, data: bytes) -> None:
    """The same behind the first bytes of a real packet."""
    only_format_error(bytes([kind, 0, 0, 0, 1, 0, 0, 0]) + data)


@given(st.binary(min_size=7, max_size=200))
def test_noise_behind_a_requests_kind_is_refused(data: bytes) -> None:
    """A request's header carries more than the others'."""
    only_format_error(b"\3" + data)


def place(**changed: Any) -> Place:
    whole = {"name": "x", "dtype": "float32", "shape": (2, 3), "offset": 64, "size_bytes": 24}
    return Place(**{**whole, **changed})


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_bytes": 23},
        {"offset": 63},
        {"offset": 1 << 63},
        {"shape": (2,) * 33, "size_bytes": 4 << 33},
        {"shape": (-2, -3)},
        {"shape": (0, 1 << 60), "size_bytes": 0},
        {"dtype": "string", "shape": (1 << 60,), "size_bytes": 0},
        {"dtype": "complex64"},
        {"dtype": "string", "offset": (1 << 63) - 64, "size_bytes": 64},
        {"name": "\ud800"},
        {"name": "x" * (PACKET_BYTES_MAX + 1)},
    ],
    ids=str,
)
def test_a_tensor_that_makes_no_sense_is_not_sent(wrong: dict[str, Any]) -> None:
    """Wrong size, place, rank, type or name: refused before a packet is made of it."""
    with pytest.raises(FormatError):
        encode(Infer(model="m", version="", inputs=(place(**wrong),)))


@pytest.mark.parametrize(
    "wrong",
    [{"priority": 4}, {"priority": -1}, {"sequence": 1 << 63}, {"sequence_start": True}],
    ids=str,
)
def test_a_request_that_begins_wrongly_is_not_sent(wrong: dict[str, Any]) -> None:
    """A priority that is none, a number of a sequence that is none, a step of no sequence."""
    with pytest.raises(FormatError):
        encode(Infer(model="m", version="", inputs=(), **wrong))


@pytest.mark.parametrize(("at", "value"), [(1, 4), (2, 1), (2, 4), (3, 1), (23, 128)], ids=str)
def test_a_request_that_begins_wrongly_is_refused(at: int, value: int) -> None:
    """The same on the wire, and flags that nobody knows."""
    whole = bytearray(encode(Infer(model="m", version="", inputs=())))
    whole[at] = value
    with pytest.raises(FormatError):
        decode(bytes(whole))


def test_packets_have_a_limit() -> None:
    """A longer one is neither made nor read."""
    many = tuple(place(name=f"input-{number}") for number in range(400))
    with pytest.raises(FormatError, match="do not fit"):
        encode(Infer(model="m", version="", inputs=many))
    with pytest.raises(FormatError, match="do not fit"):
        encode(Answer(version="1.0.0", outputs=(place(),) * (PACKET_BYTES_MAX + 1)))
    with pytest.raises(FormatError, match="longer than"):
        decode(bytes(PACKET_BYTES_MAX + 1))


def test_the_same_fact_twice_is_refused() -> None:
    """A failure names each fact once."""
    whole = encode(Failure(reason="r", status="s", message="", facts={"a": "1", "b": "1"}))
    with pytest.raises(FormatError, match="twice"):
        decode(whole.replace(b"b1", b"a1"))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (
            Hello(version=1, slot_bytes=65536),
            "01 00 0000 00000000 4544474c 0100 0000 0000010000000000",
        ),
        (
            Infer(
                model="team/m",
                version="",
                inputs=(place(),),
                outputs=("y",),
                timeout_us=5,
                priority=3,
                sequence=7,
                sequence_end=True,
                request=9,
            ),
            "03 03 0200 09000000 0500000000000000 0700000000000000"
            "0600 0000 0100 0100 7465616d2f6d"
            "0b 02 0100 00000000 4000000000000000 1800000000000000"
            "0200000000000000 0300000000000000 78 0100 79",
        ),
        (
            Answer(version="1.0.0", outputs=(place(name="y"),), request=9),
            "82 00 0000 09000000 0000000000000000 0500 0100 0000 0000 312e302e30"
            "0b 02 0100 00000000 4000000000000000 1800000000000000"
            "0200000000000000 0300000000000000 79",
        ),
        (
            Failure(reason="R", status="S", message="m", facts={"k": "v"}, request=9),
            "83 00 0000 09000000 0100 0100 0100 0100 52 53 6d 0100 0100 6b 76",
        ),
        (Elsewhere(message="no"), "84 00 0000 00000000 0200 0000 00000000 6e6f"),
        (Take(request=3), "04 00 0000 03000000"),
        (Resize(slot_bytes=1, request=3), "02 00 0000 03000000 0100000000000000"),
        (SlotGiven(slot_bytes=1, request=3), "81 00 0000 03000000 0100000000000000"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_bytes_are_those_of_the_protocol(packet: Packet, expected: str) -> None:
    """The encodings that PROTOCOL.md describes, written down once."""
    assert encode(packet) == bytes.fromhex(expected)
