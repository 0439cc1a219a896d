"""Recognising files and folders: by content, whatever the bytes are."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import google.protobuf.message
import numpy as np
import onnx
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import FormatError, NotFoundError, UsageError
from edge_sdk.formats import (
    FORMATS,
    TensorMap,
    TensorRange,
    detect,
    open_folder,
    open_model,
    write_safetensors,
)
from edge_sdk.formats.model_file import Contents, Format, ModelFile
from tests.support.ggml_files import GgmlTensor, ggml, gguf
from tests.support.onnx_models import linear, mlp, save
from tests.support.tflite_models import INT8, Shape, Weights, add_model
from tests.support.torch_files import tensor_of, torch_legacy, torch_zip
from tests.support.wire_bytes import message, onnx_external, onnx_model


@cache
def valid(kind: str) -> bytes:
    """A small valid file of each kind."""
    if kind == "onnx":
        return mlp((4, 3, 2)).SerializeToString(deterministic=True)
    if kind == "onnx external":
        return onnx_model(message(5, onnx_external(location="data", offset="4", length="8")))
    if kind.startswith("tflite"):
        weights = [
            Weights("w", np.ones((1, 4), np.float32)),
            Weights("v", np.ones(5, np.int8), INT8),
        ]
        weights[1].external = ("data", 2) if kind == "tflite external" else None
        return add_model(weights, shape=Shape(signature=(-1, 4)), append=kind == "tflite behind")
    if kind.startswith("torch"):
        tensors = {
            "a": tensor_of("0", np.ones((2, 3), np.float32)),
            "b": tensor_of("1", np.ones(5)),
        }
        return {"torch_zip": torch_zip, "torch_legacy": torch_legacy}[kind](tensors)
    if kind.startswith("gg"):
        numbers = [GgmlTensor("a", 0, (3, 2), bytes(24)), GgmlTensor("b", 1, (5,), bytes(10))]
        return {"gguf": gguf, "ggml": ggml}[kind](numbers)
    if kind.startswith("np"):
        arrays = io.BytesIO()
        {"npy": np.save, "npz": np.savez}[kind](arrays, np.ones((2, 3), np.float32))
        return arrays.getvalue()
    stream = io.BytesIO()
    write_safetensors(stream, {"a": np.ones((2, 3), np.float32), "b": np.ones(5, np.int8)})
    return stream.getvalue()


KINDS = (
    *("onnx", "onnx external", "safetensors", "tflite", "tflite behind", "tflite external"),
    *("torch_legacy", "torch_zip", "gguf", "ggml", "npy", "npz"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "data").write_bytes(bytes(16))
    return folder


def check(folder: Path, content: bytes) -> TensorMap | None:
    """Opens bytes and holds the answer to what is promised of any answer."""
    path = folder / "model"
    path.write_bytes(content)
    try:
        found = open_model(path)
    except FormatError as error:
        assert 0 <= error.facts["offset"] <= len(content)
        assert error.facts["file"] == str(path)
        assert f"byte {error.facts['offset']}" in error.message
        return None
    end: dict[str, int] = {}
    names = set()
    for one in found.tensors:
        assert one.file in ("model", *found.external_files)
        assert one.length > 0
        assert one.offset >= end.get(one.file, 0)
        end[one.file] = one.end
        names.add(one.name)
        assert one.end <= (folder / one.file).stat().st_size
    assert len(names) == len(found.tensors)
    assert list(found.tensors) == sorted(found.tensors, key=lambda one: (one.file, one.offset))
    return found


@given(content=st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_model_or_refused(folder: Path, content: bytes) -> None:
    """Any bytes give ranges inside the file, or a FormatError that says where."""
    check(folder, content)


@given(content=st.binary(max_size=200), begin=st.sampled_from([b"\x08\x0a\x3a\x20\x0a", b"....TFL3", b"\x08\0\0\0\0\0\0\0{\"", b"\x10\0\0\0TFL3\x08\0\x10\0", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", b"PK\3\4", b"GGUF\3\0\0\0", b"lmgg"]))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_bytes_behind_a_beginning_are_a_model_or_refused(
    folder: Path, content: bytes, begin: bytes
) -> None:
    """The same behind the first bytes of each format."""
    check(folder, begin + content)


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    """Bytes changed, cut out, put in or doubled in a few places."""
    content = bytearray(whole)
    for _turn in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        end = min(len(content), at + data.draw(st.integers(0, 12)))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=12),
                st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\xff\x0f", b"\x80" * 10]),
                st.just(bytes(content[at:end]) * 2),
            )
        )
        content[at:end] = piece
    return bytes(content)


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_damage_to_a_model_is_survived(folder: Path, kind: str, data: st.DataObject) -> None:
    """A damaged model gives ranges inside the file, or a FormatError that says where."""
    check(folder, damaged(data, valid(kind)))


@pytest.mark.unmeasured
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_protobuf_takes_for_a_model_is_never_opaque(folder: Path, data: st.DataObject) -> None:
    """Whatever a runtime could load is looked at: as a model, with the runtime's own view of
    its tensors, or refused."""
    content = damaged(data, valid("onnx"))
    found = check(folder, content)
    try:
        model = onnx.load_model_from_string(content)
    except google.protobuf.message.DecodeError:
        return
    graph = model.graph
    if 1 <= model.ir_version <= 255 and (graph.node or graph.initializer or graph.output):
        assert found is None or found.format == "onnx"
    if found and found.format == "onnx":
        held = {form for tensor in tensors_of(model) for form in stored_forms(tensor)}
        assert all(content[one.offset : one.end] in held for one in found.tensors)


def tensors_of(message: google.protobuf.message.Message) -> Iterator[onnx.TensorProto]:
    """All tensors anywhere in a message, as protobuf understands it."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if isinstance(value, Iterable) else [value]:
                if isinstance(part, onnx.TensorProto):
                    yield part
                yield from tensors_of(part)


def stored_forms(tensor: onnx.TensorProto) -> Iterator[bytes]:
    yield tensor.raw_data
    yield np.array(tensor.float_data, np.float32).tobytes()
    yield np.array(tensor.double_data, np.float64).tobytes()


@pytest.mark.unmeasured
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_taken_for_safetensors_the_reference_takes_too(
    folder: Path, data: st.DataObject
) -> None:
    """Stricter than the reference, never laxer: same tensors, same bytes."""
    content = damaged(data, valid("safetensors"))
    found = check(folder, content)
    if found and found.format == "safetensors":
        try:
            reference = {name: bytes(one["data"]) for name, one in safetensors.deserialize(content)}
        except safetensors.SafetensorError as error:
            # The one exception: a type of a later release has no range, but is no damage.
            assert "unknown variant" in str(error)
            return
        for one in found.tensors:
            assert reference[one.name] == content[one.offset : one.end]


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", KINDS)
def test_any_one_flipped_bit_is_survived(folder: Path, kind: str) -> None:
    """Every single bit of a small model, one after the other."""
    content = bytearray(valid(kind))
    outcomes = set()
    for at in range(0, 8 * len(content), 3):
        content[at // 8] ^= 1 << at % 8
        found = check(folder, bytes(content))
        outcomes.add(found.format if found else "refused")
        content[at // 8] ^= 1 << at % 8
    damaged_is = "opaque" if kind == "ggml" else "refused"
    assert {kind.split(maxsplit=1)[0], damaged_is} <= outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_known_under_any_name(folder: Path, kind: str) -> None:
    """The extension says nothing."""
    for name in ("model.txt", "model.tflite", "model.onnx", "model.safetensors", "model"):
        (folder / name).write_bytes(valid(kind))
        assert open_model(folder / name).format == kind.split(maxsplit=1)[0]


def test_text_under_a_models_name_is_opaque(tmp_path: Path) -> None:
    """A name that promises a model makes none."""
    (tmp_path / "model.onnx").write_text("no model at all")
    assert open_model(tmp_path / "model.onnx").format == "opaque"


def test_the_same_bytes_give_the_same_answer(folder: Path) -> None:
    """Maps are compared between distributor processes."""
    path = folder / "same"
    path.write_bytes(valid("onnx"))
    assert open_model(path) == open_model(path)


def test_opaque_is_asked_last() -> None:
    """Every format has its own name, and the one that takes everything comes last."""
    names = [form.name for form in FORMATS]
    assert len(set(names)) == len(names)
    assert names[-1] == "opaque"


def test_a_reader_that_errs_does_not_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges are checked once more behind every reader, also one added later."""
    (tmp_path / "model").write_bytes(bytes(10))

    def read(file: ModelFile) -> Contents:
        return Contents(
            tensors=[
                TensorRange(
                    name="w", dtype="uint8", shape=(6,), file=file.path.name, offset=5, length=6
                )
            ]
        )

    monkeypatch.setattr(detect, "FORMATS", (Format(name="careless", read=read),))
    with pytest.raises(FormatError, match="lies outside"):
        open_model(tmp_path / "model")


def test_a_missing_file_or_a_folder_is_no_model(tmp_path: Path) -> None:
    """Other errors than a damaged file."""
    with pytest.raises(NotFoundError):
        open_model(tmp_path / "missing")
    with pytest.raises(UsageError):
        open_model(tmp_path)


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    """In the order of their paths; external data of a model is not repeated."""
    save(mlp(), tmp_path / "deep" / "model.onnx", external="weights")
    save(linear(1.0), tmp_path / "other.onnx")
    (tmp_path / "labels.txt").write_text("cat")
    (tmp_path / "weights").write_text("not those of the model in the folder below")
    (tmp_path / "empty").mkdir()
    maps = open_folder(tmp_path)
    assert [(str(one.path.relative_to(tmp_path)), one.format) for one in maps] == [
        ("deep/model.onnx", "onnx"),
        ("labels.txt", "opaque"),
        ("other.onnx", "onnx"),
        ("weights", "opaque"),
    ]


def test_models_that_name_each_other_both_stay(tmp_path: Path) -> None:
    """Two hostile files that are external data of each other do not make each other vanish."""
    for mine, other in (("a", "b"), ("b", "a")):
        tensor = onnx_external(location=other, offset="0")
        (tmp_path / mine).write_bytes(onnx_model(message(5, tensor)))
    assert [one.path.name for one in open_folder(tmp_path)] == ["a", "b"]


def test_links_and_special_files_are_no_part_of_a_folder(tmp_path: Path) -> None:
    """An artifact has plain files only; which one is not is said."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "outside").write_text("x")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(FormatError, match="link"):
        open_folder(tmp_path / "folder")
    (tmp_path / "folder" / "link").unlink()
    os.mkfifo(tmp_path / "folder" / "pipe")
    with pytest.raises(FormatError, match="pipe"):
        open_folder(tmp_path / "folder")


def test_a_folder_must_be_one(tmp_path: Path) -> None:
    """A file or nothing there is an error of its own."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        open_folder(tmp_path / "file")
    with pytest.raises(NotFoundError):
        open_folder(tmp_path / "missing")


def test_a_damaged_file_in_a_folder_is_named(tmp_path: Path) -> None:
    """The error is that of the file."""
    (tmp_path / "bad").write_bytes(valid("tflite")[:100])
    with pytest.raises(FormatError) as error:
        open_folder(tmp_path)
    assert error.value.facts["file"] == str(tmp_path / "bad")
