"""Tensors of ONNX models: where their values stand, in the model and beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.base import FormatError
from edge_sdk.formats import DTYPE_BITS, TensorRange, open_model
from edge_sdk.formats.onnx_tensor import DTYPES
from tests.support.onnx_models import finish, mlp, save
from tests.support.tensor_maps import opened
from tests.support.wire_bytes import message, number, onnx_external, onnx_model, onnx_tensor, varint


def model_of(*tensors: bytes) -> bytes:
    return onnx_model(*(message(5, tensor) for tensor in tensors))


def refused(tmp_path: Path, content: bytes) -> FormatError:
    with pytest.raises(FormatError) as error:
        opened(tmp_path, content)
    assert error.value.facts["tensor"] == "w"
    assert "'w'" in error.value.message
    assert 0 < error.value.facts["offset"] < len(content)
    return error.value


def content_of(one: TensorRange, folder: Path) -> bytes:
    return (folder / one.file).read_bytes()[one.offset : one.end]


def test_every_type_of_the_library_is_known() -> None:
    """Each element type has its NumPy spelling, and those with values a width."""
    for number_, name in DTYPES.items():
        if name == "string":
            continue
        assert helper.tensor_dtype_to_np_dtype(number_).name == name
        assert name in DTYPE_BITS
    assert set(DTYPES) == set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - {TensorProto.STRING}))
def test_every_type_is_found_as_the_library_stores_it(tmp_path: Path, dtype: int) -> None:
    """Also types of 4, 2 and 6 bits, packed, with a last byte that is partly used."""
    values = np.ones(3).astype(helper.tensor_dtype_to_np_dtype(dtype))
    stored = numpy_helper.from_array(values, "w")
    found = open_model(save(finish([], [], [], [stored]), tmp_path / "m"))
    (one,) = found.tensors
    assert (one.dtype, one.shape) == (DTYPES[dtype], (3,))
    assert content_of(one, tmp_path) == stored.raw_data


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (TensorProto.FLOAT, np.arange(5, dtype=np.float32)),
        (TensorProto.DOUBLE, np.arange(5, dtype=np.float64)),
        (TensorProto.COMPLEX64, np.arange(5, dtype=np.complex64)),
        (TensorProto.COMPLEX128, np.arange(5, dtype=np.complex128)),
    ],
)
def test_packed_lists_of_fixed_width_are_ranges_too(
    tmp_path: Path, dtype: int, values: Any
) -> None:
    """float_data and double_data stand on the wire as raw_data would."""
    stored = helper.make_tensor("w", dtype, values.shape, values.tolist())
    assert not stored.raw_data
    (one,) = open_model(save(finish([], [], [], [stored]), tmp_path / "m")).tensors
    assert content_of(one, tmp_path) == values.tobytes()


@pytest.mark.parametrize(
    "tensor",
    [
        helper.make_tensor("w", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("w", TensorProto.INT8, [3], [1, 2, 3]),
        helper.make_tensor("w", TensorProto.FLOAT16, [3], [1, 2, 3]),
        helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"b"]),
        helper.make_tensor("w", TensorProto.FLOAT, [0], b"", raw=True),
    ],
    ids=["int64", "int8", "float16", "string", "empty"],
)
def test_values_of_varying_width_have_no_range(tmp_path: Path, tensor: Any) -> None:
    """Numbers written as varints, strings, and tensors without elements."""
    found = open_model(save(finish([], [], [], [tensor]), tmp_path / "m"))
    assert (found.format, found.tensors) == ("onnx", ())


@pytest.mark.parametrize(
    "parts",
    [
        [message(4, bytes(4)), message(4, bytes(4))],
        [b"\x25" + bytes(4), b"\x25" + bytes(4)],
        [message(4, bytes(12))],
    ],
    ids=["two lists", "a field each", "too long"],
)
def test_lists_that_are_not_one_range_have_none(tmp_path: Path, parts: list[bytes]) -> None:
    """protobuf may write a list in pieces; pieces are not a range of the file."""
    assert opened(tmp_path, model_of(onnx_tensor(*parts, shape=(2,)))).tensors == ()


def test_a_type_of_a_later_release_has_no_range(tmp_path: Path) -> None:
    """Its bytes have no meaning here; the file stays a model."""
    content = model_of(onnx_tensor(message(9, bytes(5)), dtype=99, shape=(3,)))
    assert opened(tmp_path, content).tensors == ()


def test_dimensions_may_be_packed(tmp_path: Path) -> None:
    """protobuf readers take a list of numbers in either form."""
    content = model_of(
        message(1, varint(2), varint(3)) + onnx_tensor(message(9, bytes(24)), shape=())
    )
    assert opened(tmp_path, content).tensors[0].shape == (2, 3)


def test_of_repeated_single_fields_the_last_counts(tmp_path: Path) -> None:
    """As in protobuf: raw_data, the type and the name given twice."""
    twice = [message(9, bytes(3)), number(2, 7), message(8, b"first"), message(9, b"12345678"), number(2, 1), message(8, b"last")]  # fmt: skip
    (one,) = opened(tmp_path, model_of(onnx_tensor(*twice, shape=(2,)))).tensors
    assert (one.name, one.dtype, content_of(one, tmp_path)) == ("last", "float32", b"12345678")


@pytest.mark.parametrize(
    "tensor",
    [
        onnx_tensor(message(9, bytes(7)), shape=(2,)),
        onnx_tensor(message(9, bytes(9)), shape=(2,)),
        onnx_tensor(message(9, bytes(8)), shape=(-2, -1)),
        onnx_tensor(message(9, bytes(8)), shape=(1 << 40, 1 << 40)),
        onnx_tensor(message(9, bytes(8)), shape=(1,) * 300),
        message(1, b"\1" * 1000) + onnx_tensor(message(9, bytes(4)), shape=()),
    ],
    ids=["short", "long", "negative", "absurd", "too many", "too many packed"],
)
def test_shapes_that_do_not_fit_are_refused(tmp_path: Path, tensor: bytes) -> None:
    """The error names the tensor and where it stands."""
    refused(tmp_path, model_of(tensor))


def test_external_data_is_found_where_it_lies(tmp_path: Path) -> None:
    """The library's own external files: same names and bytes, the file listed once."""
    path = save(mlp(), tmp_path / "m" / "model.onnx", external="weights.bin")
    found = open_model(path)
    assert found.external_files == ("weights.bin",)
    model = onnx.load(str(path))
    for stored in model.graph.initializer:
        one = next(one for one in found.tensors if one.name == stored.name)
        assert one.file == "weights.bin"
        assert content_of(one, tmp_path / "m") == numpy_helper.to_array(stored).tobytes()


def test_external_data_may_lie_in_a_folder_below(tmp_path: Path) -> None:
    """A leading ./ is taken away; offset and length are optional."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w").write_bytes(bytes(8))
    found = opened(tmp_path, model_of(onnx_external(location="./data/w")))
    (one,) = found.tensors
    assert (one.file, one.offset, one.length) == ("data/w", 0, 8)
    assert found.external_files == ("data/w",)


def test_external_data_over_2_gib_is_found(tmp_path: Path) -> None:
    """Models over protobuf's limit keep their tensors outside (the file here is sparse)."""
    offset = 5 << 30
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(offset + 8)
    (one,) = opened(tmp_path, model_of(onnx_external(location="large", offset=str(offset)))).tensors
    assert (one.offset, one.length) == (offset, 8)


def test_external_data_of_4_bits_is_packed(tmp_path: Path) -> None:
    """Three elements of four bits take two bytes, inside or outside."""
    (tmp_path / "data").write_bytes(bytes(2))
    tensor = onnx_external(location="data", shape=(3,)) + number(2, TensorProto.INT4)
    (one,) = opened(tmp_path, model_of(tensor)).tensors
    assert (one.dtype, one.length) == ("int4", 2)


def test_shared_external_bytes_are_one_range(tmp_path: Path) -> None:
    """Tied weights name the same bytes twice; the map has them once."""
    (tmp_path / "data").write_bytes(bytes(8))
    both = [onnx_external(name, location="data") for name in ("b", "a")]
    found = opened(tmp_path, model_of(*both))
    assert [one.name for one in found.tensors] == ["a"]


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "a/../../secret", "C:\\secret", "link", "linked/secret", "*/_ORT_MEM_ADDR_/*"],
)  # fmt: skip
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    """Parent, absolute, drive, a link anywhere on the way, or the runtime's own memory."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(8))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    error = refused(folder, model_of(onnx_external(location=location)))
    assert "refused" in error.message


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"location": "missing"}, "no file"),
        ({"location": "model.bin"}, "the model file itself"),
        ({"location": "data", "offset": "4"}, "bytes 4 to 12"),
        ({"location": "data", "offset": "9999999999999999999"}, "bytes 9999999999999999999"),
        ({"location": "data", "offset": "-1"}, "the offset '-1'"),
        ({"location": "data", "offset": "0x1"}, "the offset '0x1'"),
        ({"location": "data", "offset": "٣"}, "the offset"),
        ({"location": "data", "length": "9" * 30}, "the length"),
        ({"location": "data", "length": "7"}, "it has 7 bytes"),
        ({"location": "data", "length": "9"}, "bytes 0 to 9"),
        ({"offset": "0"}, "lacks one clear location"),
        ({"location": "data"} | {f"key{turn}": "" for turn in range(20)}, "lacks one clear location"),
    ],
)  # fmt: skip
def test_external_data_that_is_not_there_is_refused(
    tmp_path: Path, entries: dict[str, str], what: str
) -> None:
    """A missing file, a range outside of it, numbers that are none, too many keys."""
    (tmp_path / "data").write_bytes(bytes(8))
    assert what in refused(tmp_path, model_of(onnx_external(**entries))).message


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    """Readers differ in which of two locations they take."""
    (tmp_path / "data").write_bytes(bytes(8))
    tensor = onnx_external(location="data") + message(
        13, message(1, b"location"), message(2, b"../x")
    )
    assert "one clear location" in refused(tmp_path, model_of(tensor)).message


def test_a_path_is_checked_whatever_the_type(tmp_path: Path) -> None:
    """A tensor whose type has no meaning here may still be loaded by a later runtime."""
    for dtype in (TensorProto.STRING, 99):
        refused(tmp_path, model_of(onnx_external(location="../secret") + number(2, dtype)))


@pytest.mark.parametrize("mark", [number(14, 1 << 32 | 1), number(14, 1) + number(14, 7)])
def test_external_marks_are_read_as_protobuf_reads_them(tmp_path: Path, mark: bytes) -> None:
    """An enumeration keeps 32 bits, and ignores values that it does not have."""
    tensor = onnx_external(location="../secret")[: -len(number(14, 1))] + mark
    content = model_of(tensor)
    stored = onnx.load_model_from_string(content).graph.initializer[0]
    assert stored.data_location == TensorProto.EXTERNAL
    refused(tmp_path, content)


def test_stale_external_entries_are_ignored(tmp_path: Path) -> None:
    """Without the mark no reader follows them; the values inside count."""
    tensor = onnx_external(location="../old") + number(14, 0) + message(9, bytes(8))
    assert opened(tmp_path, model_of(tensor)).tensors[0].file == "model.bin"
