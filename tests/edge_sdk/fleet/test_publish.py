"""Preparing an artifact: everything in the manifest is read, computed or proved here."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from edge_sdk.base import FormatError, NotFoundError, RefusedError, UsageError, prove_stream
from edge_sdk.fleet import Draft, Prepared, prepare
from edge_sdk.fleet import publish as publishing
from edge_sdk.fleet.publish import Content, survey
from edge_sdk.formats import write_safetensors
from edge_sdk.manifest import Requirements, TensorSpec, decode_manifest
from tests.support.onnx_models import identity, linear, mlp, save


def draft(**changes: object) -> Draft:
    fields: dict[str, object] = {"model": "team/digits", "version": "1.0.0", "variant": "fp32"}
    return Draft(**{**fields, **changes})


def paths(prepared: Prepared) -> list[str]:
    return [entry.path for entry in prepared.manifest.files]


def test_manifest_of_a_model_file(model: Path) -> None:
    """Signature, operator sets, IR version, engine and memory are read out of the file."""
    prepared = prepare(model, draft(parent="0.9.0", labels={"commit": "abc"}))
    manifest = prepared.manifest
    assert decode_manifest(prepared.document) == manifest
    assert (str(manifest.model), str(manifest.version), str(manifest.parent)) == (
        *("team/digits", "1.0.0", "0.9.0"),
    )
    assert (manifest.format, manifest.entry, manifest.serve) == ("onnx", "model.onnx", "inference")
    assert manifest.requires == Requirements(
        engine="onnxruntime",
        memory_bytes=4 * model.stat().st_size,
        ir_version=10,
        opsets={"": 21},
    )
    assert manifest.signature.inputs == (TensorSpec(name="x", dtype="float32", shape=(-1, 4)),)
    assert manifest.signature.outputs == (TensorSpec(name="y", dtype="float32", shape=(-1, 4)),)
    assert manifest.labels == {"commit": "abc"}


def test_a_model_for_a_gpu_gets_its_sample_here(model: Path) -> None:
    """The publisher has no TensorRT: ONNX Runtime answers for the same file, and that is said."""
    prepared = prepare(model, draft(require=("engine=tensorrt", "accelerator=cuda")))
    assert prepared.manifest.requires.engine == "tensorrt"
    assert prepared.manifest.requires.accelerators == ("cuda",)
    assert prepared.manifest.golden is not None
    assert any("by onnxruntime" in note for note in prepared.notes)


def test_every_file_is_proved(model: Path) -> None:
    """Sizes, chunk digests and SHA-256 of each file are those of its bytes."""
    prepared = prepare(model, draft())
    assert paths(prepared) == ["golden.safetensors", "model.onnx"]
    for entry in prepared.manifest.files:
        with prepared.contents[entry.digest].open() as stream:
            data = stream.read()
        assert prove_stream(io.BytesIO(data)).digest == entry.digest
        assert str(entry.sha256) == hashlib.sha256(data).hexdigest()
        assert entry.size_bytes == len(data)


def test_same_input_gives_the_same_artifact(model: Path) -> None:
    """Publishing is deterministic: the same files and words are the same artifact."""
    assert prepare(model, draft()).artifact == prepare(model, draft()).artifact
    assert prepare(model, draft()).artifact != prepare(model, draft(variant="b")).artifact


def test_external_data_comes_along(tmp_path: Path) -> None:
    """A model file brings its external weights, and memory counts them."""
    model = save(mlp(), tmp_path / "model.onnx", external="weights.bin")
    (tmp_path / "unrelated.txt").write_bytes(b"stays here")
    prepared = prepare(model, draft())
    assert paths(prepared) == ["golden.safetensors", "model.onnx", "weights.bin"]
    weights = (tmp_path / "weights.bin").stat().st_size
    assert prepared.manifest.requires.memory_bytes == 4 * (model.stat().st_size + weights)


def test_folder_is_one_artifact(tmp_path: Path) -> None:
    """A folder travels whole; the only model in it is the entry."""
    save(mlp(), tmp_path / "m" / "net.onnx", external="weights.bin")
    (tmp_path / "m" / "labels.txt").write_bytes(b"0 1 2")
    (tmp_path / "m" / "more").mkdir()
    (tmp_path / "m" / "more" / "empty").write_bytes(b"")
    prepared = prepare(tmp_path / "m", draft())
    assert paths(prepared) == [
        *("golden.safetensors", "labels.txt", "more/empty", "net.onnx", "weights.bin"),
    ]
    assert prepared.manifest.entry == "net.onnx"


def test_ambiguous_entry_has_to_be_said(tmp_path: Path) -> None:
    """Of two models in a folder the publisher says which one serves; a wrong name is refused."""
    save(linear(1.0), tmp_path / "m" / "a.onnx")
    save(linear(2.0), tmp_path / "m" / "b.onnx")
    with pytest.raises(UsageError, match=r"a\.onnx, b\.onnx.*--entry"):
        prepare(tmp_path / "m", draft())
    assert prepare(tmp_path / "m", draft(entry="b.onnx")).manifest.entry == "b.onnx"
    with pytest.raises(UsageError, match=r"--entry 'c\.onnx' is not among the files"):
        prepare(tmp_path / "m", draft(entry="c.onnx"))


def test_many_opaque_files_need_an_entry(tmp_path: Path) -> None:
    """Where nothing is a model, a single file is the entry, several have to be told apart."""
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "f0").write_bytes(b"0")
    assert prepare(folder, draft()).manifest.entry == "f0"
    for number in range(1, 8):
        (folder / f"f{number}").write_bytes(b"%d" % number)
    with pytest.raises(UsageError, match="and 3 more"):
        prepare(folder, draft())


def test_another_content_under_a_models_name_is_refused(tmp_path: Path) -> None:
    """A page of an error that was saved as a model is found out, unless it is wanted so."""
    page = tmp_path / "page.onnx"
    page.write_bytes(b"<html>404</html>")
    with pytest.raises(FormatError, match=r"called \.onnx, but its content is no such thing"):
        prepare(page, draft())
    assert prepare(page, draft(serve="none")).manifest.format == "opaque"


def test_opaque_file_is_not_served(tmp_path: Path) -> None:
    """What no engine serves is published for applications, and that is said."""
    (tmp_path / "table.bin").write_bytes(b"anything at all")
    prepared = prepare(tmp_path / "table.bin", draft())
    manifest = prepared.manifest
    assert (manifest.serve, manifest.format, manifest.golden) == ("none", "opaque", None)
    assert manifest.requires == Requirements()
    assert paths(prepared) == ["table.bin"]
    assert prepared.notes == (
        "table.bin is opaque, which no engine here serves: published with --serve none",
    )


def test_served_model_can_be_files_only(model: Path) -> None:
    """--serve none asks for no engine, no memory and no golden sample; --require still counts."""
    asked = ("architecture=aarch64", "memory=1MiB")
    prepared = prepare(model, draft(serve="none", require=asked))
    assert prepared.manifest.requires == Requirements(
        architectures=("aarch64",), memory_bytes=1 << 20
    )
    assert prepared.manifest.golden is None
    assert prepared.notes == ()
    with pytest.raises(UsageError, match="--golden"):
        prepare(model, draft(serve="none", golden=model))


def test_golden_sample_is_one_of_the_files(model: Path) -> None:
    """The manifest names the sample, its origin and its tolerances; the note says how it was made."""
    prepared = prepare(model, draft())
    golden = prepared.manifest.golden
    assert golden is not None
    assert (golden.path, golden.origin) == ("golden.safetensors", "seeded")
    assert set(golden.tolerances) == {"y"}
    assert "seeded inputs" in prepared.notes[0]


def test_golden_name_never_replaces_a_file(tmp_path: Path) -> None:
    """A file of the publisher that has the sample's name is a clash, also in another case."""
    save(linear(1.0), tmp_path / "m" / "model.onnx")
    (tmp_path / "m" / "Golden.safetensors").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"Golden\.safetensors is among the files"):
        prepare(tmp_path / "m", draft(entry="model.onnx"))


def test_sample_kept_in_the_folder_is_used_in_place(tmp_path: Path) -> None:
    """A sample among the files, given as --golden, stays what it is where it is whole."""
    save(linear(1.0), tmp_path / "m" / "model.onnx")
    sample = tmp_path / "m" / "golden.safetensors"
    x = np.ones((1, 4), np.float32)
    with sample.open("wb") as stream:
        write_safetensors(stream, {"input.x": x, "output.y": x})
    prepared = prepare(tmp_path / "m", draft(entry="model.onnx", golden=sample))
    assert paths(prepared) == ["golden.safetensors", "model.onnx"]
    with sample.open("wb") as stream:
        write_safetensors(stream, {"input.x": x})
    with pytest.raises(UsageError, match="keep it outside the folder"):
        prepare(tmp_path / "m", draft(entry="model.onnx", golden=sample))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "digits"},
        {"model": "Team/digits"},
        {"version": "one"},
        {"variant": "FP 32"},
        {"parent": "1"},
        {"labels": {"Bad Key": "x"}},
    ],
)
def test_bad_names_are_refused(model: Path, changes: dict[str, object]) -> None:
    """Names and versions that break the rules are refused before anything is read."""
    with pytest.raises(FormatError):
        prepare(model, draft(**changes))


def test_missing_path_is_said(tmp_path: Path) -> None:
    """A path that is not there is named."""
    with pytest.raises(NotFoundError, match="gone"):
        prepare(tmp_path / "gone", draft())


def test_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    """A link among the files is refused, so that nothing is published unseen."""
    save(linear(1.0), tmp_path / "m" / "model.onnx")
    (tmp_path / "m" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(FormatError, match="symbolic link"):
        prepare(tmp_path / "m", draft())


def test_type_that_nothing_serves_is_refused(tmp_path: Path) -> None:
    """A tensor type without a place in any device's memory is refused by name."""
    path = save(identity(TensorProto.COMPLEX64), tmp_path / "m.onnx")
    with pytest.raises(RefusedError, match=r"'x'.*complex64"):
        prepare(path, draft())


def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    """The bar of proving ends at exactly the bytes that were announced."""
    save(mlp(), tmp_path / "m" / "net.onnx", external="weights.bin")
    seen: list[int] = []
    prepare(tmp_path / "m", draft(), advance=seen.append)
    assert sum(seen) == survey(tmp_path / "m")


def test_files_with_the_same_bytes_are_one_content(tmp_path: Path) -> None:
    """Two files with the same bytes have one digest and are held once."""
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a").write_bytes(b"same")
    (folder / "b").write_bytes(b"same")
    prepared = prepare(folder, draft(entry="a"))
    assert len(prepared.contents) == 1
    assert len(prepared.manifest.files) == 2


def test_unreadable_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that breaks off while it is read, or that went away, ends in a typed error."""
    path = tmp_path / "table.bin"
    path.write_bytes(b"x")

    def broken(_stream: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(publishing, "prove_stream", broken)
    with pytest.raises(FormatError, match="Input/output error"):
        prepare(path, draft())
    with pytest.raises(NotFoundError):
        Content(path=tmp_path / "gone").open()
