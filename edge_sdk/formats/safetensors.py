"""safetensors: 8 bytes of header length, a JSON header, then the tensors without a gap.

It has no magic. A file is one if its header length is below 2**40 (bytes 5 to 7 are zero,
which no text has) and the header begins with an object that is empty or has a first key; from
there on everything that is wrong is a FormatError. Stricter than some readers: a key given
twice, an unknown field and bytes that belong to no tensor are refused.
Source: https://github.com/huggingface/safetensors ("Format")
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import FormatError, UsageError
from edge_sdk.formats.model_file import Contents, Format, ModelFile, open_file
from edge_sdk.formats.tensor_map import DTYPE_BITS, TensorRange, packed_bytes

# 100,000 tensors take about as much. The reference allows 100 MB; hostile JSON of that size
# costs gigabytes of memory to read (28 times its bytes, measured).
HEADER_BYTES_MAX = 16 << 20
_SHAPE_MAX = 255
_ELEMENTS_MAX = 1 << 60
_LENGTH_BYTES = 8
_ALIGNMENT = 8
_METADATA = "__metadata__"
_LIKELY = re.compile(rb".{5}\0{3}\{", re.DOTALL)
_BEGIN = re.compile(rb'[ \t\r\n]*["}]')

_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        **{"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16"},
        **{"U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64"},
        **{"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"},
        **{"C64": "complex64", "F4": "float4_e2m1fn", "F8_E8M0": "float8_e8m0fnu"},
        **{"F6_E2M3": "float6_e2m3fn", "F6_E3M2": "float6_e3m2fn"},
        **{"F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz"},
        **{"F8_E5M2": "float8_e5m2", "F8_E5M2FNUZ": "float8_e5m2fnuz"},
    }
)
# NumPy has no such types; their bit patterns are read instead.
_BIT_PATTERNS = {8: "uint8", 16: "uint16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A tensor as the header states it; ``begin`` and ``end`` count from the header's end."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(file: ModelFile) -> Contents | None:
    """The ranges of all tensors; None where the file is something else. Raises: FormatError."""
    if not _begins(file):
        return None
    start, entries = _read_header(file)
    ranges = [
        TensorRange(
            name=entry.name,
            dtype=_DTYPES[entry.dtype],
            shape=entry.shape,
            file=file.path.name,
            offset=start + entry.begin,
            length=entry.end - entry.begin,
        )
        for entry in entries
        # A type of a later release: its bytes are where they are, but mean nothing here.
        if entry.dtype in _DTYPES
    ]
    return Contents(tensors=ranges)


def _begins(file: ModelFile) -> bool:
    first = _LENGTH_BYTES + 1
    if not _LIKELY.match(file.data[:first]):
        return False
    return bool(_BEGIN.match(file.data[first : first + HEADER_BYTES_MAX]))


def _read_header(file: ModelFile) -> tuple[int, list[_Entry]]:
    """Where the tensors' bytes begin, and the tensors in the order of their bytes."""
    length = int.from_bytes(file.data[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    if length > HEADER_BYTES_MAX:
        raise file.damaged(0, f"a header of {length} bytes; at most {HEADER_BYTES_MAX} are read")
    if start > file.size_bytes:
        raise file.damaged(
            file.size_bytes, f"truncated: the header ends at byte {start}, beyond the file"
        )
    header = _parse_json(file, file.data[_LENGTH_BYTES:start])
    _check_metadata(file, header.pop(_METADATA, {}))
    entries = [_entry(file, name, stated) for name, stated in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_cover(file, start, entries)
    return start, entries


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError("a key is given twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise _DuplicateKeyError(f"{text[:40]} is not a whole number")


def _parse_json(file: ModelFile, header: bytes) -> dict[str, Any]:
    try:
        text = header.decode()
        # The header begins with a brace (_BEGIN), so what it is can only be an object.
        parsed: dict[str, Any] = json.loads(
            text, object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number
        )
    except UnicodeDecodeError as error:
        raise file.damaged(_LENGTH_BYTES + error.start, "the header is not UTF-8") from None
    except json.JSONDecodeError as error:
        offset = _LENGTH_BYTES + len(text[: error.pos].encode())
        raise file.damaged(offset, f"the header is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise file.damaged(_LENGTH_BYTES, f"the header: {what}") from None
    return parsed


def _check_metadata(file: ModelFile, metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise file.damaged(_LENGTH_BYTES, f"the header's {_METADATA} is not a map of strings")


def _entry(file: ModelFile, name: str, stated: object) -> _Entry:
    if not isinstance(stated, dict) or stated.keys() != {"dtype", "shape", "data_offsets"}:
        raise _wrong(file, name, "it is not stated by dtype, shape and data_offsets alone")
    dtype, shape, offsets = stated["dtype"], stated["shape"], stated["data_offsets"]
    if not isinstance(dtype, str) or not _are_numbers(shape) or not _are_numbers(offsets):
        raise _wrong(file, name, "dtype is no string, or shape or data_offsets no list of sizes")
    if len(offsets) != 2 or offsets[0] > offsets[1] or offsets[1] > file.size_bytes:
        raise _wrong(file, name, "its data_offsets are not the two ends of a range in the file")
    if len(shape) > _SHAPE_MAX or math.prod(shape) > _ELEMENTS_MAX:
        raise _wrong(file, name, "its shape is impossible")
    begin, end = offsets
    if dtype in _DTYPES:
        wanted = packed_bytes(_DTYPES[dtype], shape)
        if (math.prod(shape) * DTYPE_BITS[_DTYPES[dtype]]) % 8 or end - begin != wanted:
            raise _wrong(file, name, f"it has {end - begin} bytes, its shape takes {wanted}")
    return _Entry(name=name, dtype=dtype, shape=tuple(shape), begin=begin, end=end)


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _wrong(file: ModelFile, name: str, what: str) -> FormatError:
    """Points at the tensor's name in the header, where it is spelled plainly."""
    written = json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass")
    offset = max(_LENGTH_BYTES, file.data.find(written, _LENGTH_BYTES))
    return file.damaged(offset, f"tensor {name[:200]!r}: {what}", tensor=name)


def _check_cover(file: ModelFile, start: int, entries: list[_Entry]) -> None:
    """Every byte after the header belongs to exactly one tensor."""
    position = 0
    for entry in entries:
        if entry.begin != position:
            what = "overlaps another tensor" if entry.begin < position else "leaves a gap"
            at = start + entry.begin
            raise file.damaged(at, f"tensor {entry.name[:200]!r} {what}", tensor=entry.name)
        position = entry.end
    if start + position != file.size_bytes:
        what = "truncated" if start + position > file.size_bytes else "bytes of no tensor"
        raise file.damaged(
            min(file.size_bytes, start + position),
            f"{what}: tensors end at byte {start + position}, the file at {file.size_bytes}",
        )


def safetensors_names(path: Path) -> tuple[str, ...]:
    """The names of all tensors. Raises: FormatError (it is something else), NotFoundError."""
    with open_file(path) as file:
        if not _begins(file):
            raise file.damaged(0, "not a safetensors file")
        return tuple(entry.name for entry in _read_header(file)[1])


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a file, copied into memory; what NumPy has no type for as bit patterns.

    Raises: FormatError, NotFoundError, UsageError.
    """
    with open_file(path) as file:
        if not _begins(file):
            raise file.damaged(0, "not a safetensors file")
        start, entries = _read_header(file)
        return {entry.name: _load(file, start, entry) for entry in entries}


def _load(file: ModelFile, start: int, entry: _Entry) -> NDArray[Any]:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None or DTYPE_BITS[dtype] < 8:
        raise _wrong(file, entry.name, f"there is no NumPy type to hold {entry.dtype[:40]!r}")
    if dtype == "bfloat16" or dtype.startswith("float8"):
        dtype = _BIT_PATTERNS[DTYPE_BITS[dtype]]
    data = bytearray(file.data[start + entry.begin : start + entry.end])
    if dtype == "bool" and data.strip(b"\0\1"):
        raise file.damaged(start + entry.begin, f"tensor {entry.name[:200]!r}: a bool above 1")
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(entry.shape)


def write_safetensors(stream: BinaryIO, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Writes tensors, the widest type first and then by name: the same bytes every time.

    Raises: UsageError for a type that the format has not (strings, objects).
    """
    codes = {name: code for code, name in _DTYPES.items()}
    header: dict[str, object] = {}
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    position = 0
    for name, array in ordered:
        if array.dtype.name not in codes or name == _METADATA:
            raise UsageError(f"tensor {name!r} of type {array.dtype} cannot stand in safetensors")
        header[name] = {
            "dtype": codes[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    stream.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
    for _name, array in ordered:
        stream.write(array.astype(array.dtype.newbyteorder("<"), order="C").tobytes())


FORMAT = Format(name="safetensors", read=read)
