"""The quantised model is close to the float model, smaller, and loads on old devices."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from edge_sdk.base import FormatError, RefusedError
from quantize.calibrate import read_samples
from quantize.graph import read_float_model
from quantize.profiles import Profile, load_profile
from quantize.targets import Quantised, quantise_static
from tests.support.float_models import conv_model, mlp_model, model_of, write_calibration

PROFILE = load_profile("onnx-cpu-x86")


def make(
    tmp_path: Path,
    model: onnx.ModelProto,
    *,
    profile: Profile = PROFILE,
    shape: tuple[int, ...] = (64,),
) -> Quantised:
    path = tmp_path / "float.onnx"
    onnx.save(model, path)
    read = read_float_model(path)
    calibration = write_calibration(tmp_path / "c.npz", shape=shape)
    return quantise_static(read, read_samples(calibration, read.inputs, 32), profile)


def run(model: bytes, samples: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": samples})[0])


def test_int8_is_close_and_smaller(tmp_path: Path) -> None:
    """On fresh samples the INT8 model agrees with the float model, at a third of its bytes."""
    model = mlp_model(hidden=512)
    made = make(tmp_path, model)
    samples = np.random.default_rng(11).random((100, 64), dtype="f")
    wanted, got = run(model.SerializeToString(), samples), run(made.data, samples)
    assert np.sqrt(np.mean((wanted - got) ** 2)) < 0.05 * np.sqrt(np.mean(wanted**2))
    assert (wanted.argmax(1) == got.argmax(1)).mean() > 0.9
    assert len(made.data) < 0.35 * model.ByteSize()


def test_weights_use_seven_bits(tmp_path: Path) -> None:
    """No weight leaves -64..64: products of two then never saturate 16 bits."""
    made = onnx.load_model_from_string(make(tmp_path, mlp_model()).data)
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in made.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert len(weights) == 2
    assert all(np.abs(one.astype(int)).max() == 64 for one in weights)


def test_whole_range_when_the_profile_says_so(tmp_path: Path) -> None:
    """A profile without ``reduce_range`` uses all eight bits (the control of the test above)."""
    profile = msgspec.structs.replace(PROFILE, reduce_range=False)
    made = onnx.load_model_from_string(make(tmp_path, mlp_model(), profile=profile).data)
    largest = max(
        np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max()
        for tensor in made.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    )
    assert largest > 64


def test_activations_are_unsigned(tmp_path: Path) -> None:
    """Every quantised activation has an unsigned zero point."""
    made = onnx.load_model_from_string(make(tmp_path, mlp_model()).data)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    points = [node.input[2] for node in made.graph.node if node.op_type == "QuantizeLinear"]
    assert points
    assert {tensors[name].data_type for name in points} == {onnx.TensorProto.UINT8}


@pytest.mark.parametrize("opset", [13, 17, 20, 23])
def test_versions_that_old_devices_load(tmp_path: Path, opset: int) -> None:
    """The operator set stays, the IR version is within the profile, no foreign domain is left."""
    made = make(tmp_path, mlp_model(opset=opset))
    assert made.ir_version <= PROFILE.ir_version_max
    assert dict(made.opsets) == {"": opset}


def test_newer_format_is_lowered(tmp_path: Path) -> None:
    """A file in a newer IR version than old devices read comes out in one that they do."""
    model = mlp_model()
    model.ir_version = 13
    assert make(tmp_path, model).ir_version == PROFILE.ir_version_max


@pytest.mark.parametrize("opset", [11, 24])
def test_operator_sets_out_of_reach_are_refused(tmp_path: Path, opset: int) -> None:
    """An operator set that the target does not take is refused, with what to do."""
    with pytest.raises(RefusedError, match=f"operator set {opset}.*export it again"):
        make(tmp_path, mlp_model(opset=opset))


def test_batch_norm_is_folded(tmp_path: Path) -> None:
    """A batch norm behind a convolution is gone, and the result still agrees."""
    model = conv_model()
    made = make(tmp_path, model, shape=(1, 8, 8))
    assert "BatchNormalization" not in made.operators
    assert made.operators["Conv"] == 1
    samples = np.random.default_rng(5).random((9, 1, 8, 8), dtype="f")
    wanted, got = run(model.SerializeToString(), samples), run(made.data, samples)
    assert np.abs(wanted - got).max() < 0.1 * np.abs(wanted).max()
    assert made.agreement["y"].flips is None


def test_agreement_is_measured(tmp_path: Path) -> None:
    """The figures of the report are those that a reader gets by running both models."""
    model = mlp_model()
    made = make(tmp_path, model)
    with np.load(tmp_path / "c.npz") as archive:
        samples = archive["x"]
    wanted, got = run(model.SerializeToString(), samples), run(made.data, samples)
    agreement = made.agreement["y"]
    assert agreement.max_abs_difference == pytest.approx(np.abs(wanted - got).max(), rel=1e-3)
    assert agreement.root_mean_square_difference == pytest.approx(
        np.sqrt(np.mean((wanted - got) ** 2)), rel=1e-3
    )
    assert agreement.root_mean_square == pytest.approx(np.sqrt(np.mean(wanted**2)), rel=1e-3)
    assert agreement.flips == (wanted.argmax(1) != got.argmax(1)).mean()


def test_fixed_batch(tmp_path: Path) -> None:
    """A model with a fixed batch of one is calibrated one sample at a time."""
    made = make(tmp_path, mlp_model(batch=1))
    assert run(made.data, np.zeros((1, 64), "f")).shape == (1, 10)


def test_models_that_the_engine_cannot_run(tmp_path: Path) -> None:
    """A well-formed model with an operator that nobody knows is a FormatError, no traceback."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Nonsense", ["m"], ["y"], domain="nobody"),
    ]
    model = model_of(nodes, {"w": np.ones((64, 2), "f")}, ["n", 64], ["n", 2])
    model.opset_import.append(helper.make_opsetid("nobody", 1))
    with pytest.raises(FormatError, match="ONNX Runtime cannot run"):
        make(tmp_path, model)
