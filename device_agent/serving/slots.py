"""Prebound buffers of one loaded model: per set of input shapes, used again and again.

A slot's tensors lie in slabs of the pool; only strings, and outputs whose shape depends on
the data, are made by the engine in each run.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_sdk.base import ResourceError, UsageError
from edge_sdk.engines.contract import STORAGE, Array, Binding, Session, Shape
from edge_sdk.tensor_pool import Slab, SlabError, TensorPool

_LENT_MAX = 4  # slots that stay with their connections: each is memory that others cannot use
_SHAPES_KEPT_MAX = 8  # sets of input shapes; the one unused longest goes first

Key = tuple[Shape, ...]
MakeRoom = Callable[[], bool]  # lets memory go that is not used; whether there was any


def _no_room() -> bool:
    return False


class BoundSlot:
    """One set of buffers and what is bound to them. Used by one request at a time."""

    def __init__(
        self,
        session: Session,
        pool: TensorPool,
        key: Key,
        home: RowMemory | None = None,
        *,
        borrowed: Mapping[str, Array] | None = None,
        make_room: MakeRoom = _no_room,
    ) -> None:
        """``key``: shapes of the inputs in the model's order. ``borrowed``: inputs that lie in
        the pool already, for one run. ``make_room``: asked before memory is refused.

        Raises: ResourceError."""
        self.key = key
        self.home = home
        self.once = borrowed is not None  # not kept for another request
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self.static = False  # every output has the shape that was promised, in every run
        self._session = session
        self._pool = pool
        self._make_room = make_room
        self._slabs: list[Slab] = []
        self.per_run: list[Slab] = []  # of the request at hand alone
        self._binding: Binding | None = None
        self.is_checked = pool.check
        try:
            for spec, shape in zip(session.inputs, key, strict=True):
                if borrowed is not None and spec.name in borrowed:
                    self.inputs[spec.name] = borrowed[spec.name]
                else:
                    self.inputs[spec.name] = self._array("input", spec.name, spec.dtype, shape)
        except BaseException:
            self.close()
            raise

    def run(self) -> Mapping[str, Array]:
        """All outputs: arrays over slabs, good until ``finish``. Raises: EngineError."""
        binding = self._binding or self.bind()
        try:
            rest = binding.run()
        except UsageError:
            return self._run_as_it_comes()
        if not rest:
            return self.outputs
        made = self._collect(rest)
        names = (spec.name for spec in self._session.outputs)
        return {name: made[name] if name in made else self.outputs[name] for name in names}

    def bound(self) -> list[Key]:
        """The shapes of inputs that it is for."""
        return [self.key]

    def slab_of(self, array: Array) -> Slab | None:
        """The slab of this slot alone that begins where an output of the last run does."""
        address = array.ctypes.data
        return next((s for s in (*self.per_run, *self._slabs) if s.address == address), None)

    def give_away(self, slab: Slab) -> None:
        """It is the caller's from now on, who releases it."""
        (self.per_run if slab in self.per_run else self._slabs).remove(slab)

    def finish(self) -> None:
        """Ends a request: what was made for this run alone is released."""
        while self.per_run:
            self.per_run.pop().release()

    def close(self) -> None:
        """Releases the buffers; the slot is not used again."""
        self._binding = None
        self.finish()
        self.inputs = {}
        self.outputs = {}
        while self._slabs:
            self._slabs.pop().release()

    def bind(self) -> Binding:
        """Gives a buffer to every output whose shape the model promises, if it was not done.

        Raises: ResourceError.
        """
        if self._binding is not None:
            return self._binding
        promised = self._session.output_shapes({n: a.shape for n, a in self.inputs.items()})
        for spec in self._session.outputs:
            shape = promised[spec.name]
            if shape is not None and spec.dtype != "string" and spec.name not in self.outputs:
                self.outputs[spec.name] = self._array("output", spec.name, spec.dtype, shape)
        self._binding = self._bind(self.outputs)
        self.static = len(self.outputs) == len(self._session.outputs)
        return self._binding

    def _run_as_it_comes(self) -> Mapping[str, Array]:
        """The model did not keep its promise: only what fits its buffer stays bound."""
        self.static = False
        got = self._collect(self._bind({}).run())
        self.outputs = {
            name: array for name, array in self.outputs.items() if array.shape == got[name].shape
        }
        self._binding = self._bind(self.outputs)
        return got

    def _bind(self, outputs: dict[str, Array]) -> Binding:
        if self.is_checked:
            self.check({**self.inputs, **outputs})
        return self._session.bind(self.inputs, outputs)

    def _collect(self, made: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs that the engine made, copied into slabs of this run."""
        copies = {}
        for name, array in made.items():
            if array.dtype == object:
                copies[name] = np.array(array)
                continue
            copies[name] = self._slab(array.nbytes, self.per_run).array(array.dtype, array.shape)
            np.copyto(copies[name], array)
        return copies

    def _array(self, side: str, name: str, dtype: str, shape: Shape) -> Array:
        storage = STORAGE[dtype]
        if dtype == "string":
            return np.full(shape, "", storage)
        if self.home is not None and shape[:1] == self.key[0][:1]:
            return self.home.array((side, name), storage, shape)
        return self._slab(_size_bytes(storage, shape), self._slabs).array(storage, shape)

    def _slab(self, size_bytes: int, slabs: list[Slab]) -> Slab:
        slab = _acquire(self._pool, size_bytes, self._make_room)
        slabs.append(slab)
        return slab

    def check(self, arrays: Mapping[str, Array]) -> None:
        """Every tensor given to an engine or answered must lie in a slab. Raises: SlabError."""
        for name, array in arrays.items():
            if array.dtype != object and not self._pool.owns(array):
                raise SlabError(f"tensor {name!r} does not lie in the pool")


class RowMemory:
    """Slabs for as many rows as may run as one, and a bound slot for each number of rows.

    The slots share the slabs: one of them is used at a time.
    """

    def __init__(
        self,
        session: Session,
        pool: TensorPool,
        key: Key,
        rows_max: int,
        make_room: MakeRoom = _no_room,
    ) -> None:
        """``key``: shapes of the inputs without their rows; ``make_room``: see ``BoundSlot``."""
        self.key = key
        self._session = session
        self._pool = pool
        self._make_room = make_room
        self._rows_max = rows_max
        self._slabs: dict[tuple[object, ...], Slab] = {}
        self._slots: dict[int, BoundSlot] = {}

    def slot(self, rows: int) -> BoundSlot:
        """Raises: ResourceError."""
        slot = self._slots.get(rows)
        if slot is None:
            shapes = tuple((rows, *shape) for shape in self.key)
            slot = self._slots[rows] = BoundSlot(
                self._session, self._pool, shapes, self, make_room=self._make_room
            )
        return slot

    def bound(self) -> list[Key]:
        """The shapes of inputs that it has slots for."""
        return [slot.key for slot in tuple(self._slots.values())]

    def array(self, name: tuple[str, str], storage: np.dtype[Any], shape: Shape) -> Array:
        """The first rows of a tensor's slab. Raises: ResourceError."""
        wanted_bytes = _size_bytes(storage, (self._rows_max, *shape[1:]))
        key = (*name, *shape[1:])  # what a row has may depend on how many there are
        slab = self._slabs.get(key)
        if slab is None:
            slab = self._slabs[key] = _acquire(self._pool, wanted_bytes, self._make_room)
        return slab.array(storage, shape)

    def close(self) -> None:
        """Releases all buffers; no slot is used again."""
        for slot in self._slots.values():
            slot.close()
        self._slots.clear()
        while self._slabs:
            self._slabs.popitem()[1].release()


def _acquire(pool: TensorPool, size_bytes: int, make_room: MakeRoom) -> Slab:
    """Raises: ResourceError."""
    try:
        return pool.acquire(size_bytes)
    except ResourceError:
        if not make_room():
            raise
        return pool.acquire(size_bytes)


def _size_bytes(storage: np.dtype[Any], shape: Shape) -> int:
    return math.prod(shape) * storage.itemsize


class SlotCache:
    """The idle buffers of one loaded model, by input shapes.

    With ``rows_max`` above 1, inputs that differ in their rows only, up to so many, share them.
    """

    def __init__(self, session: Session, pool: TensorPool, rows_max: int = 1) -> None:
        self._session = session
        self._pool = pool
        self._rows_max = rows_max
        self._lock = threading.Lock()
        self._idle: OrderedDict[Key, list[BoundSlot | RowMemory]] = OrderedDict()
        self._newest_key: Key | None = None  # the last in ``_idle``, and what is kept for it
        self._newest: list[BoundSlot | RowMemory] = []
        self._lent: dict[BoundSlot, Callable[[], None]] = {}
        self._closed = False

    def take(self, shapes: Sequence[Shape]) -> BoundSlot:
        """An idle slot for inputs of these shapes (in the model's order), or a new one.

        Raises: ResourceError.
        """
        key, rows = tuple(shapes), 0
        if self._rows_max > 1:
            key, rows = self._without_rows(key)
        with self._lock:  # first what nearly every request is
            idle = self._newest if key == self._newest_key else self._idle.get(key)
            found = idle.pop() if idle else None
        if isinstance(found, BoundSlot):
            return found
        if not rows:
            return BoundSlot(self._session, self._pool, key, make_room=self._let_idle_go)
        home = found or RowMemory(self._session, self._pool, key, self._rows_max, self._let_idle_go)
        try:
            return home.slot(rows)
        except BaseException:
            self._put(home, home.key)
            raise

    def _let_idle_go(self) -> bool:
        """Makes room for other shapes of inputs; whether there was anything to let go."""
        with self._lock:
            gone = [one for kept in self._idle.values() for one in kept]
            self._idle.clear()
            self._newest_key, self._newest = None, []
        for one in gone:
            one.close()
        return bool(gone)

    def once(self, shapes: Sequence[Shape], borrowed: Mapping[str, Array]) -> BoundSlot:
        """A slot for one run of shapes that no other request will have. Raises: ResourceError."""
        key = tuple(shapes)
        return BoundSlot(
            self._session, self._pool, key, borrowed=borrowed, make_room=self._let_idle_go
        )

    def shapes(self) -> list[Key]:
        """Of inputs that have buffers, and do not use them just now."""
        with self._lock:
            kept = [one for many in self._idle.values() for one in many]
        return sorted({shapes for one in kept for shapes in one.bound()})

    def put_back(self, slot: BoundSlot) -> None:
        if slot.per_run:
            slot.finish()
        if slot.once:
            slot.close()
            return
        one = slot.home or slot
        self._put(one, one.key)

    def lend(self, shapes: Sequence[Shape], let_go: Callable[[], None]) -> BoundSlot | None:
        """A static slot for longer than a request, until ``take_back``, or ``let_go`` is called:
        then it is closed. None: there is none such, or enough were lent.

        Raises: ResourceError.
        """
        if len(self._lent) >= _LENT_MAX:
            return None
        slot = self.take(shapes)
        try:
            slot.bind()
        except BaseException:
            self.put_back(slot)
            raise
        with self._lock:
            if slot.static and not self._closed:
                self._lent[slot] = let_go
                return slot
        self.put_back(slot)
        return None

    def take_back(self, slot: BoundSlot) -> None:
        """One that was lent, unless it was closed meanwhile."""
        with self._lock:
            is_lent = self._lent.pop(slot, None) is not None
        if is_lent:
            self.put_back(slot)

    def _without_rows(self, key: Key) -> tuple[Key, int]:
        """The shapes without their rows, and these; 0 rows: as they are."""
        rows = key[0][0] if key and key[0] else 0
        if 0 < rows <= self._rows_max and all(shape[:1] == (rows,) for shape in key):
            return tuple(shape[1:] for shape in key), rows
        return key, 0

    def _put(self, one: BoundSlot | RowMemory, key: Key) -> None:
        with self._lock:
            if key == self._newest_key:  # mostly, and then its order need not be changed
                self._newest.append(one)
                return
            gone = [one] if self._closed else self._keep(one, key)
        for old in gone:
            old.close()

    def _keep(self, one: BoundSlot | RowMemory, key: Key) -> list[BoundSlot | RowMemory]:
        self._newest_key, self._newest = key, self._idle.setdefault(key, [])
        self._newest.append(one)
        self._idle.move_to_end(key)
        if len(self._idle) <= _SHAPES_KEPT_MAX:
            return []
        return self._idle.popitem(last=False)[1]

    def close(self) -> None:
        """Releases all idle buffers, and those in use as they come back."""
        with self._lock:
            self._closed = True
            self._newest_key, self._newest = None, []
            gone = [one for kept in self._idle.values() for one in kept]
            self._idle.clear()
            lent = list(self._lent.items())
            self._lent.clear()
        for slot, let_go in lent:
            let_go()
            (slot.home or slot).close()
        for one in gone:
            one.close()
