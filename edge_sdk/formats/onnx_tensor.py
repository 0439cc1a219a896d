"""Tensors of an ONNX model: as the file states them, then as byte ranges."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from edge_sdk.base import FormatError
from edge_sdk.formats.external_data import MissingFileError, UnsafePathError, locate
from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.tensor_map import DTYPE_BITS, TensorRange, packed_bytes
from edge_sdk.formats.wire import LEN, VARINT, Field, Wire, signed, tag_of

DTYPES: Mapping[int, str] = MappingProxyType(
    {
        **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"},
        **{8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64"},
        **{14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn"},
        **{18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4"},
        **{22: "int4", 23: "float4_e2m1fn", 24: "float8_e8m0fnu", 25: "uint2", 26: "int2"},
        **{27: "float6_e2m3fn", 28: "float6_e3m2fn"},
    }
)
SHAPE_MAX = 255
_ELEMENTS_MAX = 1 << 60
_ENTRIES_MAX = 16

_DIMENSION = tag_of(1, VARINT)
_DIMENSIONS = tag_of(1, LEN)
_DTYPE = tag_of(2, VARINT)
_FLOATS = tag_of(4, LEN)
_NAME = tag_of(8, LEN)
_RAW = tag_of(9, LEN)
_DOUBLES = tag_of(10, LEN)
_EXTERNAL = tag_of(13, LEN)
_LOCATION = tag_of(14, VARINT)
_WANTED = frozenset(
    {_DIMENSION, _DIMENSIONS, _DTYPE, _FLOATS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION}
)

_KEY = tag_of(1, LEN)
_VALUE = tag_of(2, LEN)
_LISTED = frozenset({"float32", "float64", "complex64", "complex128"})
_NUMBER = re.compile(r"[0-9]{1,19}\Z")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A TensorProto. Spans are [start, end) in the model file; an impossible shape is None.

    ``lists`` are the packed float_data and double_data, the other places of values that have
    a fixed width.
    """

    name: str
    offset: int
    dtype: str | None
    shape: tuple[int, ...] | None
    raw: Span | None
    lists: tuple[Span, ...]
    is_external: bool
    entries: tuple[tuple[str, str], ...]

    def named(self, name: str) -> StoredTensor:
        return replace(self, name=name)


def read_tensor(wire: Wire, field: Field, text: Callable[[Field], str]) -> StoredTensor:
    """Where a TensorProto has its values. Raises: WireError."""
    name, dtype, raw, is_external = "", 0, None, False
    dimensions: list[int] = []
    lists: list[Span] = []
    entries: list[tuple[str, str]] = []
    for part in wire.fields(field.start, field.end, _WANTED):
        if part.tag == _DIMENSION:
            dimensions.append(part.value)
        elif part.tag == _DIMENSIONS:
            dimensions += wire.varints(part.start, part.end, count_max=SHAPE_MAX)
        elif part.tag == _DTYPE:
            dtype = part.value & 0xFFFF_FFFF
        elif part.tag == _NAME:
            name = text(part)
        elif part.tag == _RAW:
            raw = (part.start, part.end)
        elif part.tag == _EXTERNAL:
            entries.append(_entry(wire, part, text))
        elif part.tag == _LOCATION:
            # An enumeration of 32 bits; protobuf keeps the value before where this is neither.
            location = part.value & 0xFFFF_FFFF
            is_external = location == 1 if location in (0, 1) else is_external
        else:
            lists.append((part.start, part.end))
        # One more than allowed is kept, so that too many are seen, and no more.
        del dimensions[SHAPE_MAX + 1 :]
        del lists[2:]
        del entries[_ENTRIES_MAX + 1 :]
    return StoredTensor(
        name=name,
        offset=field.start,
        dtype=DTYPES.get(dtype),
        shape=_shape(dimensions),
        raw=raw,
        lists=tuple(lists),
        is_external=is_external,
        entries=tuple(entries),
    )


def _shape(dimensions: Sequence[int]) -> tuple[int, ...] | None:
    shape = tuple(map(signed, dimensions))
    possible = len(shape) <= SHAPE_MAX and min(shape, default=0) >= 0
    return shape if possible and math.prod(shape) <= _ELEMENTS_MAX else None


def _entry(wire: Wire, field: Field, text: Callable[[Field], str]) -> tuple[str, str]:
    key = value = ""
    for part in wire.fields(field.start, field.end, frozenset({_KEY, _VALUE})):
        if part.tag == _KEY:
            key = text(part)
        else:
            value = text(part)
    return key, value


def place(
    file: ModelFile, tensors: Sequence[StoredTensor]
) -> tuple[list[TensorRange], dict[str, int]]:
    """The ranges of all tensors, and the external files with their sizes.

    Values that are written as numbers of varying width, or as strings, have no range.
    Raises: FormatError that names the tensor.
    """
    placing = _Placing(file)
    ranges = [placing.place(tensor) for tensor in tensors]
    return [found for found in ranges if found], placing.sizes


class _Placing:
    """Turns tensors into ranges; each external file is looked up once."""

    def __init__(self, file: ModelFile) -> None:
        self.sizes: dict[str, int] = {}
        self._file = file
        self._found: dict[str, str] = {}

    def place(self, tensor: StoredTensor) -> TensorRange | None:
        if tensor.shape is None:
            raise self._wrong(tensor, "its shape is impossible")
        known = tensor.dtype is not None and tensor.dtype in DTYPE_BITS
        wanted = packed_bytes(tensor.dtype, tensor.shape) if tensor.dtype and known else None
        if tensor.is_external:
            file, start, length = self._external(tensor, wanted)
        else:
            file = self._file.path.name
            start, length = self._internal(tensor, wanted)
        if tensor.dtype is None or wanted is None or length == 0:
            return None
        if length != wanted:
            raise self._wrong(tensor, f"it has {length} bytes, its shape takes {wanted}")
        return TensorRange(
            name=tensor.name,
            dtype=tensor.dtype,
            shape=tensor.shape,
            file=file,
            offset=start,
            length=length,
        )

    def _internal(self, tensor: StoredTensor, wanted: int | None) -> tuple[int, int]:
        """Start and length in the model file; a length of 0 where there is no one range."""
        if tensor.raw and tensor.raw[0] < tensor.raw[1]:
            return tensor.raw[0], tensor.raw[1] - tensor.raw[0]
        # Half floats and small integers stand as numbers of varying width: no range.
        if len(tensor.lists) == 1 and tensor.dtype in _LISTED:
            start, end = tensor.lists[0]
            return start, (end - start if end - start == wanted else 0)
        return 0, 0

    def _external(self, tensor: StoredTensor, wanted: int | None) -> tuple[str, int, int]:
        entries = dict(tensor.entries)
        clear = len(entries) == len(tensor.entries) <= _ENTRIES_MAX
        if not clear or "location" not in entries:
            raise self._wrong(tensor, "its external data lacks one clear location")
        relative = self._locate(tensor, entries["location"])
        size = self.sizes[relative]
        offset = self._number(tensor, entries, "offset", 0)
        length = self._number(tensor, entries, "length", wanted or 0)
        if offset + length > size:
            what = f"bytes {offset} to {offset + length} of {relative!r}, which has {size}"
            raise self._wrong(tensor, f"its external data is {what}")
        return relative, offset, length

    def _locate(self, tensor: StoredTensor, location: str) -> str:
        if location not in self._found:
            try:
                relative, size = locate(self._file.path.parent, location)
            except (UnsafePathError, MissingFileError) as error:
                what = f"its external data in {location[:200]!r} is refused: {error}"
                raise self._wrong(tensor, what) from None
            if relative == self._file.path.name:
                raise self._wrong(tensor, "its external data is the model file itself")
            self._found[location] = relative
            self.sizes[relative] = size
        return self._found[location]

    def _number(
        self, tensor: StoredTensor, entries: Mapping[str, str], key: str, default: int
    ) -> int:
        text = entries.get(key)
        if text is None:
            return default
        if not _NUMBER.match(text):
            raise self._wrong(tensor, f"its external data has the {key} {text[:40]!r}")
        return int(text)

    def _wrong(self, tensor: StoredTensor, what: str) -> FormatError:
        return self._file.damaged(
            tensor.offset, f"tensor {tensor.name[:200]!r}: {what}", tensor=tensor.name
        )
