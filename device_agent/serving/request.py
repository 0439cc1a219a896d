"""A request: what is asked for, held against the model that shall answer, and put into buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from device_agent.serving.generation import Generation
from device_agent.serving.scheduling import LOW, ModelQueue
from device_agent.serving.sequences import Sequence as SequenceOf
from edge_sdk.base import UsageError
from edge_sdk.engines.contract import STORAGE, Array, Session, Shape, shape_fits
from edge_sdk.manifest.model import TensorSpec

_BYTES_MAX = 2**63 - 1  # of an array, also of one with no elements but other sizes beside the 0
_POINTER_BYTES = 8  # the largest element


class Stored(Protocol):
    """The bytes of a tensor that lie elsewhere; its length is how many."""

    def __len__(self) -> int: ...

    def read(self) -> bytes: ...

    def read_into(self, array: Array) -> None:
        """Fills a contiguous array of as many bytes. Raises: UsageError where they are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTensor:
    """An input as it arrived: ``data`` is its little-endian bytes, or an array.

    Bytes that are stored elsewhere and views may change at any time: they are read once, into
    the slot.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | Array | Stored


class Request:
    """``version`` empty: the active one; ``wanted`` empty: all outputs; ``priority``: 1 high,
    2 medium, 3 and above low, 0 the model's own; ``sequence``: the one that it belongs to.

    It may be run again and again, by one thread at a time: it is held against a generation
    once, not each time.
    """

    __slots__ = (
        *("inputs", "model", "priority", "queue", "sequence", "version", "wanted"),
        *("_fits", "arrays", "began", "borrowed", "given", "group", "rows", "shapes", "specs"),
    )

    def __init__(
        self,
        *,
        model: str,
        version: str,
        inputs: Sequence[GivenTensor],
        wanted: Sequence[str] = (),
        priority: int = 0,
        sequence: SequenceOf | None = None,
    ) -> None:
        self.model = model
        self.version = version
        self.inputs = inputs
        self.wanted = wanted
        self.priority = min(priority, LOW)
        self.sequence = sequence
        self.queue: ModelQueue | None = None  # looked up when it is first run
        self.began: Callable[[], None] | None = None  # called when its turn has come
        self._fits = 0  # number of the generation that the rest is for
        self.given: Sequence[GivenTensor] = ()
        self.arrays: list[tuple[str, Array]] | None = None  # where all inputs can be copied as such
        self.borrowed: Mapping[str, Array] | None = None  # inputs that are used where they lie
        self.shapes: tuple[Shape, ...] = ()
        self.specs: Mapping[str, TensorSpec] = {}
        self.rows = 1
        self.group: tuple[object, ...] | None = None

    def fit(self, generation: Generation) -> None:
        """Sets inputs and shapes in the model's order, and the outputs to answer with.

        Requests with the same ``group`` may run as one, ``rows`` of it each.
        Raises: UsageError that says what was expected and what came.
        """
        if self._fits == generation.number:
            return
        self._fits = 0
        self.given = check_inputs(generation.session, self.inputs)
        self.specs = check_wanted(generation.session, self.wanted)
        self.shapes = tuple(tensor.shape for tensor in self.given)
        self.arrays = _as_arrays(self.given)
        self.rows, self.group = 1, None
        costs = generation.batch_costs  # once: a run of others may take it away
        if costs is not None:
            rows = {shape[0] for shape in self.shapes}
            if len(rows) == 1 and 0 < (count := rows.pop()) <= costs.rows_max:
                self.rows = count
                self.group = (generation.number, *(shape[1:] for shape in self.shapes))
        self._fits = generation.number


def with_states(
    request: Request, states: Mapping[str, Array], generation: Generation, *, borrow: bool = False
) -> Request:
    """The request with the states that it does not bring itself, asking for all outputs.

    ``borrow``: states are not copied; it runs alone, in buffers of its own.
    """
    given = {tensor.name for tensor in request.inputs}
    dtypes = {spec.name: spec.dtype for spec in generation.session.inputs}
    kept = [
        GivenTensor(name=name, dtype=dtypes[name], shape=array.shape, data=array)
        for name, array in states.items()
        if name not in given
    ]
    whole = Request(
        model=request.model,
        version=request.version,
        inputs=[*request.inputs, *kept],
        priority=request.priority,
    )
    whole.fit(generation)
    if borrow:
        whole.borrowed = {tensor.name: states[tensor.name] for tensor in kept}
        whole.given = [one for one in whole.given if one.name not in whole.borrowed]
        whole.arrays = whole.group = None
    return whole


def owned(tensor: GivenTensor) -> GivenTensor:
    """With content that nobody else can change: where an input lies in memory of the caller,
    what was looked up and what is run could otherwise be two things."""
    if isinstance(tensor.data, bytes):
        return tensor
    if isinstance(tensor.data, memoryview):
        return replace(tensor, data=bytes(tensor.data))
    if not isinstance(tensor.data, np.ndarray):
        return replace(tensor, data=tensor.data.read())
    if tensor.data.dtype == object:
        return replace(tensor, data=np.array(tensor.data))
    kind = STORAGE[tensor.dtype]
    return replace(tensor, data=tensor.data.astype(kind, casting="same_kind", copy=False).tobytes())


def check_inputs(session: Session, inputs: Sequence[GivenTensor]) -> list[GivenTensor]:
    """The inputs in the model's order. Raises: UsageError that says expected and got."""
    by_name = {tensor.name: tensor for tensor in inputs}
    if len(by_name) < len(inputs):
        twice = next(name for name in by_name if sum(one.name == name for one in inputs) > 1)
        raise UsageError(f"input {twice!r} is given twice; each is needed once")
    known = [spec.name for spec in session.inputs]
    for name in by_name:
        if name not in known:
            raise UsageError(f"unexpected input {name!r}; the model's inputs are {known}")
    for spec in session.inputs:
        if spec.name not in by_name:
            raise UsageError(f"expected inputs {known}, got {sorted(by_name)}")
        _check_tensor(spec, by_name[spec.name])
    return [by_name[name] for name in known]


def _check_tensor(spec: TensorSpec, tensor: GivenTensor) -> None:
    if tensor.dtype != spec.dtype:
        raise UsageError(f"input {spec.name!r} is {tensor.dtype}; the model expects {spec.dtype}")
    if min(tensor.shape, default=0) < 0 or not shape_fits(spec.shape, tensor.shape):
        raise UsageError(
            f"unexpected shape for input {spec.name!r}: expected {list(spec.shape)}, got "
            f"{list(tensor.shape)}"
        )
    count = 1
    for size in tensor.shape:
        count *= size
    if not count and math.prod(filter(None, tensor.shape)) * _POINTER_BYTES > _BYTES_MAX:
        raise UsageError(f"input {spec.name!r} has a shape that no memory holds: {tensor.shape}")
    if isinstance(tensor.data, np.ndarray):
        if tensor.data.size != count:
            raise UsageError(
                f"input {spec.name!r} has {tensor.data.size} elements; its shape "
                f"{list(tensor.shape)} expects {count}"
            )
        return
    expected = count * STORAGE[spec.dtype].itemsize
    if len(tensor.data) != expected:
        raise UsageError(
            f"unexpected total byte size {len(tensor.data)} for input {spec.name!r}, expecting "
            f"{expected}"
        )


def check_wanted(session: Session, wanted: Sequence[str]) -> dict[str, TensorSpec]:
    """The outputs to answer with, in the order asked for. Raises: UsageError."""
    specs = {spec.name: spec for spec in session.outputs}
    for name in wanted:
        if name not in specs:
            raise UsageError(f"unexpected output {name!r}; the model's outputs are {list(specs)}")
    return {name: specs[name] for name in wanted} if wanted else specs


def _as_arrays(given: Sequence[GivenTensor]) -> list[tuple[str, Array]] | None:
    arrays = []
    for tensor in given:
        data = tensor.data
        if not isinstance(data, np.ndarray) or data.shape != tensor.shape:
            return None
        if data.dtype != STORAGE[tensor.dtype]:
            return None
        arrays.append((tensor.name, data))
    return arrays


def fill(array: Array, tensor: GivenTensor) -> None:
    """Copies a checked input into a buffer of its shape."""
    data = tensor.data
    if isinstance(data, np.ndarray):
        np.copyto(array, data if data.shape == array.shape else data.reshape(array.shape))
    elif not isinstance(data, (bytes, memoryview)):
        data.read_into(array)
        if tensor.dtype == "bool":
            np.not_equal(array.view(np.uint8), 0, out=array)
    elif tensor.dtype == "bool":
        # Any byte may arrive, but only 0 and 1 are a bool to the engine.
        np.not_equal(np.frombuffer(data, np.uint8).reshape(array.shape), 0, out=array)
    else:
        np.copyto(array.reshape(-1), np.frombuffer(data, array.dtype))
