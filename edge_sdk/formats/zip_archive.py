"""Where the entries of a ZIP file lie: those that are stored as they are can be read in place.

Only the central directory counts, as for every reader; ZIP64 is understood. Source: APPNOTE.TXT
6.3.10 (sections 4.3 and 4.5.3)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_sdk.formats.model_file import ModelFile

BEGIN = b"PK\x03\x04"
_LOCAL = struct.Struct("<4s22xHH")  # lengths of name and extra field
_DIRECTORY = b"PK\x01\x02"
# Flags, way of compression, sizes (packed and not), lengths of name, extra field and comment,
# place of the local header.
_CENTRAL = struct.Struct("<4s4xHH8xIIHHH8xI")
_END = struct.Struct("<4s8xIIH")  # size and place of the directory, length of the comment
_END_MAGIC = b"PK\x05\x06"
_COMMENT_BYTES_MAX = 0xFFFF
_LOCATOR = struct.Struct("<4s4xQ4x")
_LOCATOR_MAGIC = b"PK\x06\x07"
_END64 = struct.Struct("<4s36xQQ")
_END64_MAGIC = b"PK\x06\x06"
_EXTRA64 = 1
_IN_EXTRA = 0xFFFFFFFF
_ENCRYPTED = 1
# Far more than storages of any model; so many take 100 MB of memory.
_ENTRIES_MAX = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of an archive: ``length`` bytes from ``offset`` on, as they are or packed."""

    name: str
    offset: int
    length: int
    is_stored: bool


def first_name(file: ModelFile) -> str:
    """The name in the local header that a ZIP file begins with; empty where there is none."""
    if file.data[: len(BEGIN)] != BEGIN or file.size_bytes < _LOCAL.size:
        return ""
    name_bytes = _LOCAL.unpack(file.data[: _LOCAL.size])[1]
    return file.data[_LOCAL.size : _LOCAL.size + name_bytes].decode("utf-8", "replace")


def read_entries(file: ModelFile) -> dict[str, Entry]:
    """All entries by name; of equal names the last. Raises: FormatError."""
    return {entry.name: entry for entry in _entries(file)}


def _entries(file: ModelFile) -> Iterator[Entry]:
    at, end = _directory(file)
    count = 0
    while at < end:
        count += 1
        if count > _ENTRIES_MAX:
            raise file.damaged(at, f"an archive of more than {_ENTRIES_MAX} entries; refused")
        if at + _CENTRAL.size > end:
            raise file.damaged(at, "truncated: the directory of the archive ends within an entry")
        fields = _CENTRAL.unpack(file.data[at : at + _CENTRAL.size])
        magic, flags, way, packed, size, name_bytes, extra_bytes, comment_bytes, local = fields
        extra_at = at + _CENTRAL.size + name_bytes
        following = extra_at + extra_bytes + comment_bytes
        if magic != _DIRECTORY or following > end:
            raise file.damaged(at, "no entry of the archive's directory")
        name = file.data[at + _CENTRAL.size : extra_at].decode("utf-8", "replace")
        extra = file.data[extra_at : extra_at + extra_bytes]
        size, packed, local = _with_extra(file, extra_at, extra, (size, packed, local))
        offset = _data_offset(file, local)
        if offset + packed > file.size_bytes:
            raise file.damaged(at, f"entry {name[:200]!r} lies outside of the file")
        is_stored = way == 0 and size == packed and not flags & _ENCRYPTED
        yield Entry(name=name, offset=offset, length=packed, is_stored=is_stored)
        at = following


def _directory(file: ModelFile) -> tuple[int, int]:
    """First byte of the directory, and the one behind it."""
    lowest = max(0, file.size_bytes - _END.size - _COMMENT_BYTES_MAX)
    found = file.data[lowest:].rfind(_END_MAGIC)
    at = lowest + found
    if found < 0 or at + _END.size > file.size_bytes:
        raise file.damaged(file.size_bytes, "truncated: the archive has no directory")
    _, size, start, _ = _END.unpack(file.data[at : at + _END.size])
    locator = at - _LOCATOR.size
    if locator >= 0 and file.data[locator : locator + 4] == _LOCATOR_MAGIC:
        at = _LOCATOR.unpack(file.data[locator:at])[1]
        if file.data[at : at + 4] != _END64_MAGIC or at + _END64.size > locator:
            raise file.damaged(locator, "the archive's directory is not where it should be")
        _, size, start = _END64.unpack(file.data[at : at + _END64.size])
    if start + size > at:
        raise file.damaged(at, "the archive's directory lies outside of the file")
    return start, start + size


def _with_extra(
    file: ModelFile, at: int, extra: bytes, stated: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Sizes and place, those that did not fit from the extra field for large ones."""
    if _IN_EXTRA not in stated:
        return stated
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        held = extra[position + 4 : position + 4 + length]
        if kind == _EXTRA64 and 8 * stated.count(_IN_EXTRA) <= len(held):
            numbers = iter(struct.unpack_from(f"<{stated.count(_IN_EXTRA)}Q", held))
            size, packed, local = (next(numbers) if one == _IN_EXTRA else one for one in stated)
            return size, packed, local
        position += 4 + length
    raise file.damaged(at, "an entry of the archive says no size")


def _data_offset(file: ModelFile, local: int) -> int:
    header = file.data[local : local + _LOCAL.size]
    if len(header) < _LOCAL.size or header[:4] != BEGIN:
        raise file.damaged(min(local, file.size_bytes), "no entry of the archive begins here")
    _, name_bytes, extra_bytes = _LOCAL.unpack(header)
    offset: int = local + _LOCAL.size + name_bytes + extra_bytes
    return offset
