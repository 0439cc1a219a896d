"""GGUF, versions 2 and 3: keys with values, a list of tensors, then their bytes, aligned.

The magic makes a file one. Keys are passed over, but for the alignment. Big-endian files, and
those of the first version, are opaque: they are told by what their version reads as.
Source: docs/gguf.md of ggml
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

from edge_sdk.formats.ggml_types import DIMENSIONS_MAX, ggml_range
from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.tensor_map import TensorRange

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT_KEY = b"general.alignment"
_ALIGNMENT = 32
_ALIGNMENT_MAX = 1 << 20
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_UINT32 = 4
_VALUE_BYTES: Mapping[int, int] = MappingProxyType(
    {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
)
# Strings of vocabularies are read one after the other; a million take less than a second.
_ITEMS_MAX = 8_000_000
# Keys have this limit too.
_STRING_BYTES_MAX = 1 << 16


def read(file: ModelFile) -> Contents | None:
    """The ranges of all tensors; None where the file is something else. Raises: FormatError."""
    if file.data[: len(_MAGIC)] != _MAGIC:
        return None
    reader = _Reader(file, len(_MAGIC))
    if reader.u32() not in _VERSIONS:
        return None
    return Contents(tensors=reader.tensors())


class _Reader:
    """What lies before the tensors' bytes, read once from its beginning to its end."""

    def __init__(self, file: ModelFile, position: int) -> None:
        self._file = file
        self._position = position
        self._items_left = _ITEMS_MAX

    def tensors(self) -> list[TensorRange]:
        """Those of known types. Raises: FormatError where one lies outside of the file."""
        count, keys = self._u64(), self._u64()
        alignment = _ALIGNMENT
        for _turn in range(self._items(keys)):
            alignment = self._key() or alignment
        stated = [self._tensor() for _turn in range(self._items(count))]
        start = -(-self._position // alignment) * alignment
        found = []
        for at, name, number, dimensions, offset in stated:
            tensor = ggml_range(name, number, dimensions, self._file.path.name, start + offset)
            if tensor is None:
                continue
            if tensor.end > self._file.size_bytes:
                what = f"tensor {name[:200]!r} ends at byte {tensor.end}, beyond the file"
                raise self._file.damaged(at, what, tensor=name)
            found.append(tensor)
        return found

    def u32(self) -> int:
        at = self._skip(_U32.size)
        number: int = _U32.unpack(self._file.data[at : at + _U32.size])[0]
        return number

    def _u64(self) -> int:
        at = self._skip(_U64.size)
        number: int = _U64.unpack(self._file.data[at : at + _U64.size])[0]
        return number

    def _skip(self, count: int) -> int:
        """Passes over the next bytes; where they begin."""
        at = self._position
        if count > self._file.size_bytes - at:
            raise self._file.damaged(at, "truncated: the file ends before its tensors")
        self._position = at + count
        return at

    def _items(self, count: int) -> int:
        """Charges for what is read one by one."""
        self._items_left -= count
        if self._items_left < 0:
            raise self._file.damaged(self._position, "more items than any model has; refused")
        return count

    def _string(self) -> bytes:
        length = self._u64()
        if length > _STRING_BYTES_MAX:
            raise self._file.damaged(self._position, f"a name of {length} bytes; refused")
        at = self._skip(length)
        return self._file.data[at : at + length]

    def _key(self) -> int | None:
        """Passes over a key and its value; the alignment, where that is what they say."""
        key = self._string()
        kind = self.u32()
        at = self._position
        if kind == _ARRAY:
            self._array()
        else:
            self._values(kind, 1)
        if key != _ALIGNMENT_KEY:
            return None
        stated = self._file.data[at : at + _U32.size]
        alignment = _U32.unpack(stated)[0] if kind == _UINT32 else 0
        if not 0 < alignment <= _ALIGNMENT_MAX:
            raise self._file.damaged(at, "the alignment of the tensors is no size")
        return int(alignment)

    def _array(self) -> None:
        kind = self.u32()
        self._values(kind, self._u64())

    def _values(self, kind: int, count: int) -> None:
        if kind == _STRING:
            for _turn in range(self._items(count)):
                self._skip(self._u64())
        elif kind in _VALUE_BYTES:
            self._skip(count * _VALUE_BYTES[kind])
        else:
            raise self._file.damaged(self._position, f"{kind} is no type of a value")

    def _tensor(self) -> tuple[int, str, int, tuple[int, ...], int]:
        """Where it is stated, name, type, dimensions, and place among the tensors' bytes."""
        at = self._position
        name = self._string().decode("utf-8", "replace")
        rank = self.u32()
        if rank > DIMENSIONS_MAX:
            raise self._file.damaged(at, f"a tensor of {rank} dimensions", tensor=name)
        dimensions = tuple(self._u64() for _axis in range(rank))
        return at, name, self.u32(), dimensions, self._u64()


FORMAT = Format(name="gguf", read=read)
