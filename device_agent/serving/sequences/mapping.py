"""Which inputs of a model are state, whether its signature allows that, and how state begins.
Pure."""

from __future__ import annotations

from collections.abc import Mapping

from edge_sdk.base.errors import RefusedError, UsageError
from edge_sdk.engines.contract import Shape
from edge_sdk.manifest.model import TensorSpec

Specs = tuple[TensorSpec, ...]


def check_states(
    states: Mapping[str, str], starts: Mapping[str, Shape], *, inputs: Specs, outputs: Specs
) -> None:
    """``states``: input to the output that is its next value; ``starts``: shapes of inputs
    whose state does not begin as ``start_shape`` says.

    Raises: RefusedError that names the tensor which does not fit.
    """
    known, made = {spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs}
    for name, source in states.items():
        if name not in known:
            raise RefusedError(f"state {name!r} is no input; the model's inputs are {list(known)}")
        if source not in made:
            raise RefusedError(
                f"the next value of state {name!r} is to be output {source!r}; the model's "
                f"outputs are {list(made)}"
            )
        _check_pair(known[name], made[source])
    for name, shape in starts.items():
        if name not in states:
            raise RefusedError(f"{name!r} has a shape to start with, and is no state")
        if not _may_be(known[name].shape, shape) or min(shape, default=0) < 0:
            raise RefusedError(
                f"state {name!r} cannot start with shape {list(shape)}; the model expects "
                f"{list(known[name].shape)}"
            )


def _check_pair(state: TensorSpec, source: TensorSpec) -> None:
    if state.dtype == "string":
        raise RefusedError(f"state {state.name!r} is of strings; only numbers can be kept")
    if state.dtype != source.dtype or not _may_be(state.shape, source.shape):
        raise RefusedError(
            f"output {source.name!r} ({source.dtype} {list(source.shape)}) cannot be the next "
            f"value of state {state.name!r} ({state.dtype} {list(state.shape)})"
        )


def _may_be(wanted: Shape, given: Shape) -> bool:
    """Whether two shapes with -1 for any size have one in common."""
    return len(wanted) == len(given) and all(
        -1 in (left, right) or left == right for left, right in zip(wanted, given, strict=True)
    )


def may_grow(state: TensorSpec) -> bool:
    """Whether more than its rows can be of any size."""
    return -1 in state.shape[1:]


def start_shape(state: TensorSpec, inputs: Specs, given: Mapping[str, Shape]) -> Shape:
    """The shape of a state before the first request: a dimension of any size begins at 0, as
    a KV cache does, but for a leading one where the first of the other ``inputs`` leads with
    any size too: both are the batch.

    ``given``: shapes of this request's inputs. Raises: UsageError (the input is missing).
    """
    sizes = [max(size, 0) for size in state.shape]
    rows = rows_given(state, inputs, given)
    return tuple(sizes) if rows is None else (rows, *sizes[1:])


def rows_given(state: TensorSpec, inputs: Specs, given: Mapping[str, Shape]) -> int | None:
    """How many rows the state must have for this request; None: that is not the batch.

    Raises: UsageError (the input is missing).
    """
    first = inputs[0] if inputs else None
    if first is None or not state.shape[:1] == (-1,) == first.shape[:1]:
        return None
    if not given.get(first.name):
        raise UsageError(f"input {first.name!r} is missing")
    return given[first.name][0]
