"""Entries of ZIP files: where Python's own reader finds them."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import FormatError
from edge_sdk.formats import zip_archive
from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.zip_archive import Entry, first_name, read_entries


def read(content: bytes) -> dict[str, Entry]:
    return read_entries(file_of(content))


def file_of(content: bytes) -> ModelFile:
    return ModelFile(path=Path("archive"), data=content, size_bytes=len(content))


def archive(
    entries: dict[str, bytes], way: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", way) as written:
        written.comment = comment
        for name, data in entries.items():
            written.writestr(zipfile.ZipInfo(name), data, way)
    return out.getvalue()


@given(
    entries=st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=9),
        st.binary(max_size=40),
        max_size=5,
    ),
    comment=st.binary(max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_entries_are_where_they_were_written(entries: dict[str, bytes], comment: bytes) -> None:
    """Names and bytes of all entries, behind a comment too."""
    content = archive(entries, comment=comment)
    found = read(content)
    held = {name: content[one.offset : one.offset + one.length] for name, one in found.items()}
    assert held == entries
    assert all(one.is_stored for one in found.values())
    assert first_name(file_of(content)) == next(iter(entries), "")


def test_packed_entries_are_told(tmp_path: Path) -> None:
    """A packed entry has a place, but not its bytes there."""
    (one,) = read(archive({"a": b"a" * 100}, zipfile.ZIP_DEFLATED)).values()
    assert not one.is_stored
    assert one.length < 100


def large(content: bytes) -> bytes:
    """The same archive of one entry with all sizes and places in the fields of ZIP64."""
    at = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    fields = list(struct.unpack("<4s6H3I5H2I", content[at : at + 46]))
    size, packed, local = fields[9], fields[8], fields[16]
    fields[8] = fields[9] = fields[16] = 0xFFFFFFFF
    fields[11] = 28
    name = content[at + 46 : end]
    extra = struct.pack("<HHQQQ", 1, 24, size, packed, local)
    entry = struct.pack("<4s6H3I5H2I", *fields) + name + extra
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at + len(entry), 1)
    last = struct.pack("<4s4HIIH", b"PK\x05\x06", 0, 0, 1, 1, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:at] + entry + end64 + locator + last


def test_zip64_is_read_as_pythons_reader_does() -> None:
    """Sizes and places of 64 bits, of the entries and of the directory."""
    content = large(archive({"a": b"data"}))
    with zipfile.ZipFile(io.BytesIO(content)) as known:
        assert known.read("a") == b"data"
    found = read(content)["a"]
    assert content[found.offset : found.offset + found.length] == b"data"


def test_entries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of too many is refused before it takes the memory."""
    monkeypatch.setattr(zip_archive, "_ENTRIES_MAX", 2)
    assert len(read(archive({"a": b"", "b": b""}))) == 2
    with pytest.raises(FormatError, match="more than 2 entries"):
        read(archive({"a": b"", "b": b"", "c": b""}))


@pytest.mark.parametrize("make", [archive, lambda entries: large(archive(entries))])
def test_an_archive_that_is_cut_anywhere_is_refused(make: object) -> None:
    """The directory is at the end: without it there is nothing."""
    content = make({"a": b"data"})  # type: ignore[operator]
    for length in range(len(content)):
        with pytest.raises(FormatError) as error:
            read(content[:length])
        assert 0 <= error.value.facts["offset"] <= length


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_is_survived(data: st.DataObject) -> None:
    """Entries inside of the file, or a FormatError that says where."""
    whole = data.draw(
        st.sampled_from([archive({"a": b"data", "b": b""}), large(archive({"a": b"data"}))])
    )
    content = bytearray(whole)
    for _turn in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.sampled_from([b"\xff", b"\0", b"\xff" * 4, b"\xff" * 8, b"\x01"]))
        content[at : at + len(piece)] = piece
    try:
        found = read(bytes(content))
    except FormatError as error:
        assert 0 <= error.facts["offset"] <= len(content)
        return
    for one in found.values():
        assert 0 <= one.offset <= one.offset + one.length <= len(content)
