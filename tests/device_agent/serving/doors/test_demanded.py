"""Parameters of a request: which kinds are taken, and what they mean."""

from __future__ import annotations

import pytest

from device_agent.serving.doors.demanded import NOTHING, Demanded, demanded
from device_agent.serving.sequences import Sequence
from edge_sdk.base import UsageError
from edge_sdk.protos import inference_v2_pb2 as pb


def of(**parameters: tuple[str, object]) -> Demanded:
    request = pb.ModelInferRequest()
    for name, (kind, value) in parameters.items():
        setattr(request.parameters[name], kind, value)
    return demanded(request)


def test_without_parameters_nothing_is_demanded() -> None:
    """And names that nobody knows pass."""
    assert of() == NOTHING
    assert of(mine=("string_param", "x")) == NOTHING


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        *(("int64_param", 0, 0), ("int64_param", 1, 1), ("uint64_param", 2, 2)),
        *(("uint64_param", 3, 3), ("int64_param", 4, 3), ("uint64_param", 1 << 63, 3)),
    ],
)
def test_priority(kind: str, given: int, meant: int) -> None:
    """Of both integer kinds; what is above the levels is the lowest."""
    assert of(priority=(kind, given)).priority == meant


@pytest.mark.parametrize(("given", "meant_s"), [(1_500_000, 1.5), (0, None), (-1, None)])
def test_timeout(given: int, meant_s: float | None) -> None:
    """In microseconds; zero and less are as without."""
    assert of(timeout=("int64_param", given)).timeout_s == meant_s


def test_sequence() -> None:
    """Named by a number or a text, with its first and last request marked."""
    one = of(sequence_id=("int64_param", 7), sequence_start=("bool_param", True))
    assert one.sequence == Sequence(id=7, start=True)
    other = of(sequence_id=("string_param", "seven"), sequence_end=("bool_param", True))
    assert other.sequence == Sequence(id="seven", end=True)
    for none in (("int64_param", 0), ("string_param", "")):
        assert of(sequence_id=none, sequence_start=("bool_param", True)).sequence is None


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        *(("priority", "string_param", "1"), ("priority", "int64_param", -1)),
        *(("timeout", "uint64_param", 1), ("timeout", "double_param", 1.0)),
        *(("sequence_id", "uint64_param", 1), ("sequence_start", "int64_param", 1)),
        *(
            ("triton_enable_empty_final_response", "int64_param", 1),
            ("triton_x", "bool_param", True),
        ),
    ],
)
def test_wrong_kinds_are_refused(name: str, kind: str, value: object) -> None:
    """The message names the parameter."""
    with pytest.raises(UsageError, match=name):
        of(**{name: (kind, value)})
