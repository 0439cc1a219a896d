"""Arrays as NumPy saves them: where their elements lie."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_sdk.base import FormatError
from tests.support.tensor_maps import contents, opened

W = np.arange(6, dtype=np.float32).reshape(2, 3)
NUMBERS = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)


def saved(array: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def archived(save: Any = np.savez, **arrays: Any) -> bytes:
    out = io.BytesIO()
    save(out, **arrays)
    return out.getvalue()


@given(hnp.arrays(st.sampled_from(NUMBERS), hnp.array_shapes(min_dims=0, max_dims=3)))
@settings(max_examples=60, deadline=None)
def test_an_array_is_found_in_place(tmp_path_factory: pytest.TempPathFactory, array: Any) -> None:
    """Every type and shape, in both orders of axes."""
    folder = tmp_path_factory.mktemp("npy")
    for stored in (array, np.asfortranarray(array)):
        found = opened(folder, saved(stored))
        (one,) = found.tensors
        assert (found.format, one.dtype) == ("npy", array.dtype.name)
        assert contents(found) == {"": stored.tobytes("A")}
        assert one.shape in (stored.shape, stored.shape[::-1])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    """They differ in the length of the header's length."""
    out = io.BytesIO()
    np.lib.format.write_array(out, W, version)
    assert contents(opened(tmp_path, out.getvalue())) == {"": W.tobytes()}


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, "a", None], object),
        W.astype(">f4"),
        np.zeros(3, [("a", "<i4"), ("b", "<f4")]),
        np.array(["text"]),
        np.zeros(2, "<M8[s]"),
        np.zeros(2, "V3"),
    ],
    ids=["objects", "big-endian", "records", "text", "dates", "void"],
)
def test_what_is_no_number_has_no_range(tmp_path: Path, array: Any) -> None:
    """And is no error."""
    found = opened(tmp_path, saved(array))
    assert (found.format, found.tensors) == ("npy", ())


def test_an_archive_is_found_in_place(tmp_path: Path) -> None:
    """Names without the suffix; packed arrays have no range."""
    found = opened(tmp_path, archived(w=W, v=W.T))
    assert found.format == "npz"
    assert contents(found) == {"w": W.tobytes(), "v": W.tobytes()}
    assert {one.name: one.shape for one in found.tensors} == {"w": (2, 3), "v": (2, 3)}
    packed = opened(tmp_path, archived(np.savez_compressed, w=np.zeros(1000)))
    assert (packed.format, packed.tensors) == ("npz", ())


def test_other_archives_are_none(tmp_path: Path) -> None:
    """Something beside arrays, or nothing at all."""
    for names in (["a.npy", "readme.txt"], []):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name in names:
                archive.writestr(name, saved(W))
        assert opened(tmp_path, out.getvalue()).format == "opaque"


@pytest.mark.parametrize("content", [saved(W), archived(w=W)], ids=["npy", "npz"])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, content: bytes) -> None:
    """At every byte from where it is known."""
    known = 6 if content[0] == 0x93 else 30 + len("w.npy")
    for length in range(known, len(content)):
        with pytest.raises(FormatError) as error:
            opened(tmp_path, content[:length])
        assert 0 <= error.value.facts["offset"] <= length


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(2, 3), }" + b" " * 20, b"(9999999999, 99999999999), } "),
        (b"(2, 3)", b"(2, 4)"),
        (b"\x01\x00", b"\x04\x00"),
        (b"\x01\x00v\x00", b"\x02\x00\xff\xff\xff\xff"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    """More elements than there are, unknown versions, headers without end."""
    with pytest.raises(FormatError):
        opened(tmp_path, saved(W).replace(old, new.ljust(len(old)), 1))


def test_sizes_of_any_length_are_no_danger(tmp_path: Path) -> None:
    """A number of thousands of digits is not read."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b",), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    assert opened(tmp_path, content).tensors == ()


def test_members_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    """Under an array's name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", "no array")
    with pytest.raises(FormatError, match="'a'"):
        opened(tmp_path, out.getvalue())
