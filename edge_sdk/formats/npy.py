"""NumPy's arrays in files: one (.npy), or several in a ZIP file (.npz).

An array of objects is a pickle, one of another byte order or of records no numbers: such have no
ranges, nor have members that are packed. Read without NumPy, which takes a header for Python.
Source: numpy/lib/format.py ("Format Version 1.0" to "3.0")
"""

from __future__ import annotations

import math
import re

from edge_sdk.base import FormatError
from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.tensor_map import DTYPE_BITS, TensorRange, packed_bytes
from edge_sdk.formats.zip_archive import BEGIN, first_name, read_entries

_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: 2, 2: 4, 3: 4}  # bytes of the header's length, by major version
_LENGTH_AT = 8
_HEADER_BYTES_MAX = 64 << 10
_HEADER = re.compile(
    rb"\{'descr': *'(.)([a-zA-Z])(\d{0,4})[^']*', *'fortran_order': *(True|False), *"
    rb"'shape': *\(([\d, ]*)\),? *\} *\n?",
)
_NAMES = {b"f": "float", b"i": "int", b"u": "uint", b"c": "complex"}
_SUFFIX = ".npy"
_DIGITS_MAX = 18
_DIMENSIONS_MAX = 64
_ELEMENTS_MAX = 1 << 60


def read_one(file: ModelFile) -> Contents | None:
    """The range of the array; None where the file is something else. Raises: FormatError."""
    if file.data[: len(_MAGIC)] != _MAGIC:
        return None
    found = _array(file, "", 0, file.size_bytes)
    return Contents(tensors=[found] if found else [])


def read_several(file: ModelFile) -> Contents | None:
    """The ranges of all arrays; None where there is anything else. Raises: FormatError."""
    if file.data[: len(BEGIN)] != BEGIN:
        return None
    try:
        entries = read_entries(file)
    except FormatError:
        if first_name(file).endswith(_SUFFIX):
            raise
        return None
    if not entries or not all(name.endswith(_SUFFIX) for name in entries):
        return None
    arrays = (
        _array(file, name.removesuffix(_SUFFIX), one.offset, one.offset + one.length)
        for name, one in entries.items()
        if one.is_stored
    )
    return Contents(tensors=[one for one in arrays if one is not None])


def _array(file: ModelFile, name: str, start: int, end: int) -> TensorRange | None:
    """An array between two offsets; None where its elements are no numbers that lie there."""
    head = file.data[start : min(end, start + _LENGTH_AT + 4)]
    length_bytes = _LENGTHS.get(head[len(_MAGIC)], 0) if len(head) > len(_MAGIC) else 0
    if head[: len(_MAGIC)] != _MAGIC or not length_bytes:
        raise file.damaged(start, f"array {name[:200]!r} begins like none of NumPy")
    at = start + _LENGTH_AT + length_bytes
    header_bytes = int.from_bytes(head[_LENGTH_AT : _LENGTH_AT + length_bytes], "little")
    if header_bytes > _HEADER_BYTES_MAX or at + header_bytes > end:
        raise file.damaged(start, f"truncated: array {name[:200]!r} ends within its header")
    stated = _HEADER.fullmatch(file.data[at : at + header_bytes])
    if stated is None:
        return None  # records, or what a later version says
    order, letter, width, is_fortran, listed = stated.groups()
    sizes = listed.replace(b",", b" ").split()
    dtype = "bool" if letter == b"b" else _NAMES.get(letter, "") + str(8 * int(width or 0))
    if dtype not in DTYPE_BITS or order == b">" or max(map(len, sizes), default=0) > _DIGITS_MAX:
        return None
    shape = tuple(map(int, sizes))
    is_impossible = len(shape) > _DIMENSIONS_MAX or math.prod(shape) > _ELEMENTS_MAX
    if is_impossible or at + header_bytes + packed_bytes(dtype, shape) > end:
        raise file.damaged(at, f"truncated: array {name[:200]!r} has less than its shape says")
    return TensorRange(
        name=name,
        dtype=dtype,
        shape=shape[::-1] if is_fortran == b"True" else shape,
        file=file.path.name,
        offset=at + header_bytes,
        length=packed_bytes(dtype, shape),
    )


ONE = Format(name="npy", read=read_one)
SEVERAL = Format(name="npz", read=read_several)
