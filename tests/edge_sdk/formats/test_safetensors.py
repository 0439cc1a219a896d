"""safetensors, against the reference library and against hostile headers."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_sdk.base import FormatError, NotFoundError, UsageError
from edge_sdk.formats import open_model, read_safetensors, write_safetensors
from edge_sdk.formats.safetensors import HEADER_BYTES_MAX
from tests.support.tensor_maps import opened

NATIVE = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
          "float16", "float32", "float64", "complex64")  # fmt: skip


def stated(
    dtype: str = "U8", shape: tuple[int, ...] = (4,), offsets: tuple[int, ...] = (0, 4)
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def file_of(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def refused(tmp_path: Path, content: bytes) -> FormatError:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        open_model(path)
    with pytest.raises(FormatError):
        read_safetensors(path)
    assert 0 <= error.value.facts["offset"] <= len(content)
    return error.value


def test_the_reference_librarys_file_is_read_in_place(tmp_path: Path) -> None:
    """Names, dtypes, shapes and bytes of every type are those that the library wrote."""
    tensors = {name: np.arange(6).reshape(2, 3).astype(name) for name in NATIVE}
    content = safetensors.numpy.save(tensors, metadata={"made": "here"})
    found = opened(tmp_path, content)
    assert (found.format, found.facts, found.external_files) == ("safetensors", None, ())
    assert {one.name for one in found.tensors} == set(NATIVE)
    for one in found.tensors:
        assert (one.dtype, one.shape, one.file) == (one.name, (2, 3), "model.bin")
        assert content[one.offset : one.end] == tensors[one.name].tobytes()


@given(st.dictionaries(st.text(max_size=8), hnp.arrays(
    st.sampled_from(NATIVE), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)), max_size=5))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_by_the_reference_and_here(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any]
) -> None:
    """Both readers give back exactly the arrays that were written."""
    stream = io.BytesIO()
    write_safetensors(stream, tensors)
    path = tmp_path_factory.mktemp("written") / "file"
    path.write_bytes(stream.getvalue())
    for read in (safetensors.numpy.load(stream.getvalue()), read_safetensors(path)):
        assert read.keys() == tensors.keys()
        for name, array in tensors.items():
            assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
            assert read[name].tobytes() == array.tobytes()
    assert open_model(path).format == "safetensors"


def test_the_same_tensors_give_the_same_aligned_bytes() -> None:
    """Neither the order of the mapping nor the memory layout shows; widest types come first."""
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    first, second = io.BytesIO(), io.BytesIO()
    write_safetensors(first, {"b": array, "a": np.float64(1) * np.ones(1), "c": np.ones(1, bool)})
    write_safetensors(
        second,
        {
            "c": np.ones(1, bool),
            "a": np.ones(1, ">f8"),
            "b": np.asfortranarray(array).astype(">i2"),
        },
    )
    assert first.getvalue() == second.getvalue()
    header_bytes = int.from_bytes(first.getvalue()[:8], "little")
    assert header_bytes % 8 == 0
    assert first.getvalue()[8 + header_bytes :] == np.ones(1).tobytes() + array.tobytes() + b"\1"


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([None]), np.ones(1, np.complex128)])
def test_types_that_the_format_has_not_are_refused(array: Any) -> None:
    """Strings, objects and complex128 cannot be written; nothing is."""
    stream = io.BytesIO()
    with pytest.raises(UsageError, match="'x'"):
        write_safetensors(stream, {"x": array})
    assert stream.getvalue() == b""


def test_the_name_of_the_metadata_is_not_for_tensors() -> None:
    """A tensor of that name would be read as metadata."""
    with pytest.raises(UsageError):
        write_safetensors(io.BytesIO(), {"__metadata__": np.ones(1)})


def test_arrays_that_were_read_can_be_written_to(tmp_path: Path) -> None:
    """They are copies: the file stays as it is and need not stay at all."""
    path = tmp_path / "file"
    with path.open("wb") as stream:
        write_safetensors(stream, {"x": np.ones(3)})
    before = path.read_bytes()
    read = read_safetensors(path)["x"]
    read[0] = 5
    assert path.read_bytes() == before


def test_types_without_a_numpy_type_are_read_as_bits(tmp_path: Path) -> None:
    """bfloat16 as uint16 and float8 as uint8, as engines take them; packed ones are refused."""
    path = tmp_path / "file"
    header = {"a": stated("BF16", (2,), (0, 4)), "b": stated("F8_E4M3", (2,), (4, 6))}
    path.write_bytes(file_of(header, b"\1\2\3\4\5\6"))
    read = read_safetensors(path)
    assert read["a"].tolist() == [0x0201, 0x0403]
    assert read["b"].dtype == np.uint8
    assert [one.dtype for one in open_model(path).tensors] == ["bfloat16", "float8_e4m3fn"]
    path.write_bytes(file_of({"a": stated("F4", (2,), (0, 1))}, b"\1"))
    assert open_model(path).tensors[0].dtype == "float4_e2m1fn"
    with pytest.raises(FormatError, match="F4"):
        read_safetensors(path)


def test_a_type_of_a_later_release_has_no_range(tmp_path: Path) -> None:
    """Its place is checked like any other, its bytes are not given a meaning."""
    header = {"new": stated("F2", (9,), (0, 3)), "known": stated("U8", (1,), (3, 4))}
    assert [one.name for one in opened(tmp_path, file_of(header, bytes(4))).tensors] == ["known"]


def test_a_bool_is_0_or_1(tmp_path: Path) -> None:
    """Any other byte would be a third truth value in NumPy."""
    path = tmp_path / "file"
    path.write_bytes(file_of({"x": stated("BOOL", (2,), (0, 2))}, b"\1\2"))
    with pytest.raises(FormatError, match="bool"):
        read_safetensors(path)


@pytest.mark.parametrize("header", [b"{}", b"{}      ", b'{ "__metadata__": {} }'])
def test_a_file_without_tensors_is_one_too(tmp_path: Path, header: bytes) -> None:
    """An empty header, padded or with metadata only, is a model of no tensors."""
    found = opened(tmp_path, file_of(header))
    assert (found.format, found.tensors) == ("safetensors", ())


HOSTILE = {
    "header beyond the file": (file_of({}, length=1000), "truncated"),
    "header too large": (file_of({}, length=HEADER_BYTES_MAX + 1), "a header of"),
    "header of 2**39": (file_of({}, length=1 << 39), "a header of"),
    "no JSON": (file_of(b'{"a'), "not JSON"),
    "text after JSON": (file_of(b'{} {}'), "not JSON"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "not UTF-8"),
    "nested deep": (file_of(b'{"a":' + b"[" * 200_000), "nested too deep"),
    "key twice": (file_of(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "twice"),
    "dtype twice": (file_of(b'{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "twice"),
    "fraction": (file_of(b'{"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}}', bytes(4)), "whole number"),
    "not a number": (file_of(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)), "whole number"),
    "a number of 9000 digits": (file_of(b'{"a":{"dtype":"U8","shape":[1' + b"0" * 9000 + b'],"data_offsets":[0,4]}}', bytes(4)), ""),
    "a list": (file_of({"a": [1]}), "dtype, shape and data_offsets"),
    "a field too many": (file_of({"a": {**stated(), "more": 1}}, bytes(4)), "alone"),
    "a field missing": (file_of({"a": {"dtype": "U8"}}), "alone"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}}), "map of strings"),
    "negative size": (file_of({"a": stated(shape=(-4,))}, bytes(4)), "no list of sizes"),
    "true as size": (file_of({"a": stated(shape=(True,), offsets=(0, 1))}, b"1"), "no list of sizes"),
    "three ends": (file_of({"a": stated(offsets=(0, 2, 4))}, bytes(4)), "two ends"),
    "backwards": (file_of({"a": stated(offsets=(4, 0))}, bytes(4)), "two ends"),
    "beyond the file": (file_of({"a": stated(shape=(1 << 50,), offsets=(0, 1 << 50))}, bytes(4)), "two ends"),
    "wrong length": (file_of({"a": stated(shape=(5,))}, bytes(4)), "5"),
    "half a byte": (file_of({"a": stated("F4", (1,), (0, 1))}, b"1"), "bytes"),
    "absurd shape": (file_of({"a": stated(shape=(1 << 62,) * 250)}, bytes(4)), "impossible"),
    "overlap": (file_of({"a": stated(), "b": stated(offsets=(2, 6))}, bytes(6)), "overlaps"),
    "gap": (file_of({"a": stated(), "b": stated(offsets=(5, 9))}, bytes(9)), "gap"),
    "gap before": (file_of({"a": stated(offsets=(1, 5))}, bytes(5)), "gap"),
    "truncated": (file_of({"a": stated()}, bytes(3)), "truncated"),
    "too long": (file_of({"a": stated()}, bytes(5)), "no tensor"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "what"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_headers_are_refused(tmp_path: Path, content: bytes, what: str) -> None:
    """Each is a FormatError that says what is wrong and where, in both readers."""
    assert what in refused(tmp_path, content).message


def test_the_error_points_at_the_tensor(tmp_path: Path) -> None:
    """Wrong statements point at the tensor's name, wrong ranges at the bytes in question."""
    content = file_of({"good": stated(), "bad": stated(shape=(5,), offsets=(4, 8))}, bytes(8))
    error = refused(tmp_path, content)
    assert (error.facts["tensor"], error.facts["offset"]) == ("bad", content.index(b'"bad"'))
    content = file_of({"a": stated(), "b": stated(offsets=(2, 6))}, bytes(6))
    assert refused(tmp_path, content).facts["offset"] == len(content) - 4


@pytest.mark.parametrize(
    "content",
    [b'{"json": "text"}', b"12345678{", file_of(b'[1]'), file_of(b"{1}"), file_of({}, length=1 << 40), b"\2\0\0\0\0\0\0\0{"],
)  # fmt: skip
def test_what_only_resembles_it_is_opaque(tmp_path: Path, content: bytes) -> None:
    """JSON itself, text, a header that begins otherwise, or a header length of 2**40."""
    assert opened(tmp_path, content).format == "opaque"
    with pytest.raises(FormatError, match="not a safetensors file"):
        read_safetensors(tmp_path / "model.bin")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    """Another error than a damaged one."""
    with pytest.raises(NotFoundError):
        read_safetensors(tmp_path / "missing")


def test_files_over_2_gib_are_read(tmp_path: Path) -> None:
    """Offsets are whole numbers of any size (the file here is sparse)."""
    size = 3 << 30
    header = {
        "large": stated("F16", (size // 2,), (0, size)),
        "last": stated("U8", (4,), (size, size + 4)),
    }
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.write(file_of(header))
        start = stream.tell()
        stream.truncate(start + size + 4)
    large, last = open_model(path).tensors
    assert (large.length, last.offset, last.length) == (size, start + size, 4)
