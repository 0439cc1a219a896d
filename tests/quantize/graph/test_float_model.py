"""A float model is read and described, anything else is refused for a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.base import FormatError, NotFoundError, RefusedError
from quantize.graph import InputFact, float_model, read_float_model
from tests.support.float_models import mlp_model, model_of


def save(tmp_path: Path, model: onnx.ModelProto) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def test_facts_of_a_model(tmp_path: Path) -> None:
    """Inputs without weights, outputs, operator set, heavy nodes and the digest of the file."""
    path = save(tmp_path, mlp_model(opset=17))
    model = read_float_model(path)
    assert model.inputs == (InputFact(name="x", dtype="float32", shape=(-1, 64)),)
    assert model.outputs == ("y",)
    assert (model.opset, model.heavy_nodes) == (17, 2)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_that_are_inputs_too_need_no_samples(tmp_path: Path) -> None:
    """Old exporters list weights among the inputs; they are weights all the same."""
    model = mlp_model()
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [64, 128]))
    assert [one.name for one in read_float_model(save(tmp_path, model)).inputs] == ["x"]


def test_external_data_is_read(tmp_path: Path) -> None:
    """Weights that lie in a file beside the model are part of it."""
    inline = read_float_model(save(tmp_path, mlp_model()))
    path = tmp_path / "outside.onnx"
    onnx.save(mlp_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    outside = read_float_model(path)
    assert path.stat().st_size < inline.size_bytes // 10
    assert outside.size_bytes == pytest.approx(inline.size_bytes, rel=0.05)


def test_external_data_outside_its_folder_is_refused(tmp_path: Path) -> None:
    """A model that names data above its own folder is refused."""
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(
        mlp_model(), path, save_as_external_data=True, location="secret.bin", size_threshold=0
    )
    path.write_bytes(path.read_bytes().replace(b"secret.bin", b"../sec.bin"))
    (tmp_path / "sec.bin").write_bytes((folder / "secret.bin").read_bytes())
    with pytest.raises(FormatError, match="not a valid ONNX"):
        read_float_model(path)


@pytest.mark.parametrize("data", [b"", b"no model", bytes(300), b"\x08\x0a", b"PK\x03\x04" * 9])
def test_other_files_are_no_models(tmp_path: Path, data: bytes) -> None:
    """What is not ONNX is a FormatError that names the file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"model\.onnx"):
        read_float_model(path)


def test_truncated_models_are_refused(tmp_path: Path) -> None:
    """A model that was cut off is not read as a smaller one."""
    path = save(tmp_path, mlp_model())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError):
        read_float_model(path)


def test_missing_models_are_told(tmp_path: Path) -> None:
    """No such file: said so."""
    with pytest.raises(NotFoundError, match="none"):
        read_float_model(tmp_path / "none.onnx")


def test_models_without_weights_are_refused(tmp_path: Path) -> None:
    """A model in which nothing would become smaller is refused instead of copied."""
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, ["n", 4], ["n", 4])
    with pytest.raises(RefusedError, match="nothing to quantise"):
        read_float_model(save(tmp_path, model))


def test_quantised_models_are_refused(tmp_path: Path) -> None:
    """Quantising twice is refused, also where the marks lie in a sub-graph."""
    scale = np.array(0.1, "f")
    inner = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["q", "scale"], ["inner"])],
        "inner",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    weights = {"q": np.zeros(3, "i1"), "scale": scale, "c": np.array(True)}
    with pytest.raises(RefusedError, match="DequantizeLinear"):
        read_float_model(save(tmp_path, model_of(nodes, weights, [3], [3])))


def test_text_inputs_are_refused(tmp_path: Path) -> None:
    """A model that takes text has no range to calibrate."""
    model = mlp_model()
    model.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, ["n"]))
    with pytest.raises(RefusedError, match="words"):
        read_float_model(save(tmp_path, model))


def test_models_over_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that fits no protobuf message is refused at once, not after minutes."""
    monkeypatch.setattr(float_model, "MODEL_BYTES_MAX", 1000)
    with pytest.raises(RefusedError, match="2 GiB"):
        read_float_model(save(tmp_path, mlp_model()))
