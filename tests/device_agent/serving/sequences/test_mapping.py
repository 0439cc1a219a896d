"""Which states a signature allows, and how they begin."""

from __future__ import annotations

import pytest

from device_agent.serving.sequences.mapping import check_states, start_shape
from edge_sdk.base import RefusedError, UsageError
from edge_sdk.manifest import TensorSpec


def spec(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


INPUTS = (spec("x", -1, 4), spec("h", -1, 8), spec("words", 2, dtype="string"), spec("k", 1, 2))
OUTPUTS = (
    *(spec("y", -1, 4), spec("next", -1, 8), spec("half", -1, 8, dtype="float16")),
    *(spec("texts", 2, dtype="string"), spec("long", 3, 2)),
)


@pytest.mark.parametrize(
    ("states", "starts", "named"),
    [
        ({"z": "next"}, {}, "'z' is no input"),
        ({"h": "z"}, {}, "output 'z'"),
        ({"h": "half"}, {}, "float16"),
        ({"k": "long"}, {}, "'long'"),
        ({"h": "y"}, {}, "'y'"),
        ({"words": "texts"}, {}, "strings"),
        ({"h": "next"}, {"x": (1, 4)}, "'x'"),
        ({"h": "next"}, {"h": (1, 9)}, "cannot start"),
        ({"h": "next"}, {"h": (-1, 8)}, "cannot start"),
    ],
)
def test_states_that_the_model_does_not_have_are_refused(
    states: dict[str, str], starts: dict[str, tuple[int, ...]], named: str
) -> None:
    """An unknown tensor, another type or another shape is refused by name, at load."""
    with pytest.raises(RefusedError, match=named):
        check_states(states, starts, inputs=INPUTS, outputs=OUTPUTS)


def test_states_of_the_model_are_taken() -> None:
    """Same type, and shapes with -1 where they may meet."""
    check_states({"h": "next"}, {"h": (3, 8)}, inputs=INPUTS, outputs=OUTPUTS)


def test_a_leading_dimension_of_any_size_is_the_batch() -> None:
    """A recurrent state has as many rows as the request; a dimension that grows begins at 0."""
    given = {"x": (5, 4)}
    assert start_shape(spec("h", -1, 8), INPUTS, given) == (5, 8)
    assert start_shape(spec("cache", -1, 2, -1, 16), INPUTS, given) == (5, 2, 0, 16)
    assert start_shape(spec("layers", 3, 1, 8), INPUTS, given) == (3, 1, 8)
    assert start_shape(spec("h", -1, 8), (spec("k", 1, 2),), {"k": (1, 2)}) == (0, 8)
    with pytest.raises(UsageError, match="'x' is missing"):
        start_shape(spec("h", -1, 8), INPUTS, {})
