"""Prebound buffers of one loaded model: per set of input shapes, used again and again.

A slot's tensors lie in slabs of the pool; only strings, and outputs whose shape depends on
the data, are made by the engine in each run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.base import UsageError
from edge_sdk.engines.contract import STORAGE, Array, Binding, Session, Shape
from edge_sdk.tensor_pool import Slab, SlabError, TensorPool

_SHAPES_KEPT_MAX = 8  # sets of input shapes; the one unused longest goes first

Key = tuple[Shape, ...]


class BoundSlot:
    """One set of buffers and what is bound to them. Used by one request at a time."""

    def __init__(self, session: Session, pool: TensorPool, key: Key) -> None:
        """``key``: shapes of the inputs in the model's order. Raises: ResourceError."""
        self.key = key
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self._session = session
        self._pool = pool
        self._slabs: list[Slab] = []
        self._per_run: list[Slab] = []
        self._binding: Binding | None = None
        try:
            for spec, shape in zip(session.inputs, key, strict=True):
                self.inputs[spec.name] = self._array(spec.dtype, shape, self._slabs)
        except BaseException:
            self.close()
            raise

    def run(self) -> Mapping[str, Array]:
        """All outputs: arrays over slabs, good until ``finish``. Raises: EngineError."""
        if self._binding is None:
            return self._first_run()
        try:
            rest = self._binding.run()
        except UsageError:
            # The model promised a shape and did not keep it: outputs are not bound again.
            self.outputs = {}
            self._binding = self._bind({})
            return self._collect(self._binding.run())
        return {**self.outputs, **self._collect(rest)} if rest else self.outputs

    def finish(self) -> None:
        """Ends a request: what was made for this run alone is released."""
        while self._per_run:
            self._per_run.pop().release()

    def close(self) -> None:
        """Releases the buffers; the slot is not used again."""
        self._binding = None
        self.finish()
        self.inputs = {}
        self.outputs = {}
        while self._slabs:
            self._slabs.pop().release()

    def _first_run(self) -> Mapping[str, Array]:
        """Runs without buffers for outputs, and binds those whose promised shape came true."""
        got = self._collect(self._bind({}).run())
        promised = self._session.output_shapes({n: a.shape for n, a in self.inputs.items()})
        dtypes = {spec.name: spec.dtype for spec in self._session.outputs}
        self.outputs = {
            name: self._array(dtypes[name], array.shape, self._slabs)
            for name, array in got.items()
            if promised[name] == array.shape and dtypes[name] != "string"
        }
        self._binding = self._bind(self.outputs)
        return got

    def _bind(self, outputs: dict[str, Array]) -> Binding:
        self._check({**self.inputs, **outputs})
        return self._session.bind(self.inputs, outputs)

    def _collect(self, made: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs that the engine made, copied into slabs of this run."""
        copies = {}
        for name, array in made.items():
            if array.dtype == object:
                copies[name] = np.array(array)
                continue
            copies[name] = self._slab(array.nbytes, self._per_run).array(array.dtype, array.shape)
            np.copyto(copies[name], array)
        return copies

    def _array(self, dtype: str, shape: Shape, slabs: list[Slab]) -> Array:
        storage = STORAGE[dtype]
        if dtype == "string":
            return np.full(shape, "", storage)
        size_bytes = int(np.prod(shape, dtype=np.int64)) * storage.itemsize
        return self._slab(size_bytes, slabs).array(storage, shape)

    def _slab(self, size_bytes: int, slabs: list[Slab]) -> Slab:
        slab = self._pool.acquire(size_bytes)
        slabs.append(slab)
        return slab

    def _check(self, arrays: Mapping[str, Array]) -> None:
        """In check mode, every tensor given to an engine must lie in a slab of the pool."""
        if not self._pool.check:
            return
        for name, array in arrays.items():
            if array.dtype != object and not self._pool.owns(array):
                raise SlabError(f"tensor {name!r} does not lie in the pool")


class SlotCache:
    """The idle slots of one loaded model, by input shapes."""

    def __init__(self, session: Session, pool: TensorPool) -> None:
        self._session = session
        self._pool = pool
        self._lock = threading.Lock()
        self._idle: OrderedDict[Key, list[BoundSlot]] = OrderedDict()
        self._closed = False

    def take(self, shapes: Sequence[Shape]) -> BoundSlot:
        """An idle slot for inputs of these shapes (in the model's order), or a new one.

        Raises: ResourceError.
        """
        key = tuple(shapes)
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                return idle.pop()
        return BoundSlot(self._session, self._pool, key)

    def put_back(self, slot: BoundSlot) -> None:
        slot.finish()
        with self._lock:
            gone = [slot] if self._closed else self._keep(slot)
        for one in gone:
            one.close()

    def _keep(self, slot: BoundSlot) -> list[BoundSlot]:
        self._idle.setdefault(slot.key, []).append(slot)
        self._idle.move_to_end(slot.key)
        if len(self._idle) <= _SHAPES_KEPT_MAX:
            return []
        return self._idle.popitem(last=False)[1]

    def close(self) -> None:
        """Releases all idle slots, and those in use as they come back."""
        with self._lock:
            self._closed = True
            gone = [slot for slots in self._idle.values() for slot in slots]
            self._idle.clear()
        for slot in gone:
            slot.close()
