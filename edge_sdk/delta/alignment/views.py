"""What source bytes may have become: tensors in other orders and widths, opaque files cast,
bytes that were text.

Each is a prediction, so that its bytes can be read anywhere without making all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from edge_sdk.delta.alignment.layouts import merged, row_major
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.sampling import number_kind
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.numeric import ElementKind, kind_of
from edge_sdk.delta.prediction import Prediction
from edge_sdk.delta.strides import SourceRange
from edge_sdk.delta.text_map import TEXT_BYTES_MAX, TextMap, lead_places
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberKind, Operation, ValueMap

# From OIHW, HWIO or OHWI to another of them; fewer axes have fewer orders.
_KERNEL_ORDERS = ((0, 2, 3, 1), (2, 3, 1, 0), (3, 2, 0, 1), (0, 3, 1, 2), (1, 2, 3, 0))
_CASTS = {
    "float32": ("float16", "bfloat16"),
    "float16": ("float32",),
    "bfloat16": ("float32",),
    "float64": ("float32",),
}
# Bytes written as text have a lead before every other byte, about; other files hardly any.
_TEXT_SHARE_MIN = 0.05
_LEAD = 0xC2
_OPAQUE_CASTS = (("float32", "float16"), ("float32", "bfloat16"), ("float16", "float32"))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A prediction whose bytes are elements of ``kind``."""

    prediction: Prediction
    kind: ElementKind

    @property
    def size_bytes(self) -> int:
        return self.prediction.length


@dataclass(frozen=True, slots=True)
class ReadView:
    """A view that is read like a file."""

    view: View
    files: Sequence[OpenFile]

    @property
    def size_bytes(self) -> int:
        return self.view.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, or fewer where the view ends."""
        length = min(length, self.size_bytes - offset)
        if length <= 0:
            return b""
        return bytes(self.view.prediction.read(offset, length, self._read_source))

    def _read_source(self, file: int, offset: int, length: int) -> bytes:
        data = self.files[file].read(offset, length)
        # A file that became shorter meanwhile is found out where its chunks are read.
        return data + bytes(length - len(data))


def tensor_views(one: LocatedTensor) -> Iterator[View]:
    """A tensor in other orders, in its own width and cast; never as it is."""
    kind = number_kind(one)
    if kind is None or kind.number < 0:
        return
    shape = [count for count in one.tensor.shape if count > 1]
    strides = row_major(shape)
    for order in _orders(len(shape)):
        layout = merged([(shape[axis], strides[axis]) for axis in order])
        held = layout.source_range(one.file, one.tensor.offset, kind.width_bytes)
        if held.dimensions:
            yield _view(held, kind, kind)
        if held.dimensions or order == tuple(range(len(shape))):
            for name in _CASTS.get(kind.name, ()):
                yield _view(held, kind, NUMBER_KINDS[name])


def opaque_views(file: int, size_bytes: int) -> Iterator[View]:
    """All bytes of a file as floats of each phase, cast."""
    for before, after in _OPAQUE_CASTS:
        kind = NUMBER_KINDS[before]
        for phase in range(kind.width_bytes):
            length = (size_bytes - phase) // kind.width_bytes * kind.width_bytes
            if length > 0:
                held = SourceRange(file=file, offset=phase, length=length)
                yield _view(held, kind, NUMBER_KINDS[after])


def text_views(number: int, file: OpenFile) -> Iterator[View]:
    """Parts of a file that are bytes written as text, as those bytes."""
    start = 0
    while start < file.size_bytes:
        text = np.frombuffer(file.read(start, TEXT_BYTES_MAX), np.uint8)
        if not len(text):
            return  # it became shorter meanwhile
        # A character is not cut in two.
        length = len(text) - int(len(text) > 1 and text[-1] & 0xFE == _LEAD)
        if np.mean(lead_places(text)) >= _TEXT_SHARE_MIN:
            held = SourceRange(file=number, offset=start, length=length)
            kind = kind_of("uint8")
            assert kind is not None
            yield View(prediction=Prediction(ranges=(held,), values=TextMap()), kind=kind)
        start += length


def _orders(rank: int) -> Sequence[tuple[int, ...]]:
    identity = tuple(range(rank))
    if rank == 4:
        return (identity, *_KERNEL_ORDERS)
    return list(permutations(identity)) if rank < 4 else [identity]


def _view(held: SourceRange, before: NumberKind, after: NumberKind) -> View:
    values = None
    if before != after:
        values = ValueMap(operation=Operation.CAST, source=before, target=after)
    kind = kind_of(after.name)
    assert kind is not None
    return View(prediction=Prediction(ranges=(held,), values=values), kind=kind)
