"""Golden samples: computed here or taken as they are, held against the model either way."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.base import FormatError, NotFoundError, RefusedError, UsageError
from edge_sdk.engines import open_engine, replay
from edge_sdk.fleet import golden
from edge_sdk.fleet.golden import decimal_text, is_quantised, read_sample, sample_for
from edge_sdk.formats import open_model, read_safetensors, write_safetensors
from edge_sdk.manifest import TensorSpec, Tolerance
from tests.support.onnx_models import identity, linear, nonzero, save, sequence


def tensors_of(data: bytes, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "sample.safetensors"
    path.write_bytes(data)
    return read_safetensors(path)


def keep(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    with path.open("wb") as stream:
        write_safetensors(stream, tensors)
    return path


def make(model: Path, **changes: object):
    asked: dict[str, object] = {"golden": None, "tolerances": {}}
    return sample_for(open_model(model), "onnxruntime", **{**asked, **changes})


def test_seeded_sample_replays(model: Path, tmp_path: Path) -> None:
    """Without inputs they are made from a seed, said so, and the model answers them again."""
    sample = make(model)
    assert sample.origin == "seeded"
    assert "seeded inputs (seed 0)" in sample.how
    tensors = tensors_of(sample.data, tmp_path)
    assert set(tensors) == {"input.x", "output.y"}
    np.testing.assert_allclose(tensors["output.y"], 2 * tensors["input.x"], rtol=1e-6)
    session = open_engine("onnxruntime").load(model)
    assert replay(session, tensors, sample.tolerances).ok
    session.close()


def test_sample_is_deterministic(model: Path) -> None:
    """The same model and seed give the same bytes; another seed gives others."""
    assert make(model).data == make(model).data
    assert make(model, seed=1).data != make(model).data


@pytest.mark.parametrize("form", ["npz", "npz with prefix", "safetensors"])
def test_given_inputs_are_computed_here(model: Path, tmp_path: Path, form: str) -> None:
    """Inputs given as NPZ or safetensors get the outputs that the model computes here."""
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    path = tmp_path / "inputs"
    if form == "safetensors":
        keep(path, {"input.x": x})
    else:
        with path.open("wb") as stream:
            np.savez(stream, **{"x" if form == "npz" else "input.x": x})
    sample = make(model, golden=path)
    assert sample.origin == "given"
    assert "the inputs of" in sample.how
    tensors = tensors_of(sample.data, tmp_path)
    np.testing.assert_array_equal(tensors["input.x"], x)
    np.testing.assert_allclose(tensors["output.y"], 2 * x)


def test_whole_sample_is_taken_as_it_is(model: Path, tmp_path: Path) -> None:
    """A sample with outputs is not computed again, also where the outputs are not the model's."""
    x = np.ones((1, 4), np.float32)
    whole = keep(tmp_path / "whole.safetensors", {"input.x": x, "output.y": 7 * x})
    sample = make(model, golden=whole)
    assert "taken as it is" in sample.how
    assert tensors_of(sample.data, tmp_path)["output.y"].tolist() == [[7, 7, 7, 7]]


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"input.x": np.ones((1, 3), np.float32)}, "shape"),
        ({"input.x": np.ones(4, np.float32)}, "shape"),
        ({"input.x": np.ones((1, 4), np.float64)}, "float64, the model says float32"),
        ({"input.x": np.ones((1, 4), np.float32), "input.z": np.ones(1)}, "does not, 'input.z'"),
        ({}, "has no 'input.x'"),
    ],
)
def test_whole_sample_that_is_not_the_models_is_refused(
    model: Path, tmp_path: Path, tensors: dict[str, np.ndarray], problem: str
) -> None:
    """A sample from elsewhere must fit the signature: names, types and shapes."""
    whole = keep(tmp_path / "whole", {**tensors, "output.y": np.ones((1, 4), np.float32)})
    with pytest.raises(UsageError, match=problem):
        make(model, golden=whole)


def test_inputs_that_do_not_fit_are_refused(model: Path, tmp_path: Path) -> None:
    """Inputs of a wrong type are refused with both types, before anything is sent."""
    np.savez(tmp_path / "inputs.npz", x=np.ones((1, 4)))
    with pytest.raises(UsageError, match="float32"):
        make(model, golden=tmp_path / "inputs.npz")


def test_damaged_samples_are_refused(tmp_path: Path) -> None:
    """Garbage, an archive of objects, a sample without tensors and a missing file are named."""
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00" * 40)
    with pytest.raises(FormatError):
        read_sample(garbage)
    np.savez(tmp_path / "objects.npz", x=np.array([object()], dtype=object))
    with pytest.raises(FormatError, match="NPZ"):
        read_sample(tmp_path / "objects.npz")
    with pytest.raises(FormatError, match="no tensor"):
        read_sample(keep(tmp_path / "none", {}))
    one = np.ones(1, np.float32)
    with pytest.raises(FormatError, match="one input twice"):
        read_sample(keep(tmp_path / "twice", {"x": one, "input.x": one}))
    with pytest.raises(NotFoundError):
        read_sample(tmp_path / "gone")


def test_missing_engine_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the engine is not installed the error names the extra and the way around it."""
    monkeypatch.setattr(golden, "available_engines", lambda: ())
    with pytest.raises(RefusedError, match=r"edge-model-sdk\[agent\].*output\.\*"):
        make(model)


def test_model_that_fails_on_its_inputs_asks_for_better_ones(tmp_path: Path) -> None:
    """Inputs on which the model itself fails are the publisher's to replace, and are named."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(3, np.float32), "table")],
    )
    opsets = [helper.make_opsetid("", 21)]
    path = save(helper.make_model(graph, ir_version=10, opset_imports=opsets), tmp_path / "m.onnx")
    assert make(path).origin == "seeded"
    np.savez(tmp_path / "inputs.npz", x=np.array([0, 9]))
    with pytest.raises(UsageError, match=r"fails on the inputs given.*--golden"):
        make(path, golden=tmp_path / "inputs.npz")


def test_unreadable_sample_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that the disk does not give is an error that names it."""

    def refused(_path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(golden, "read_safetensors", refused)
    with pytest.raises(UsageError, match=r"no permission for .*model\.onnx"):
        make(model, golden=model)


def test_whole_sample_needs_no_engine(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With outputs from elsewhere nothing is run here."""
    monkeypatch.setattr(golden, "available_engines", lambda: ())
    x = np.ones((1, 4), np.float32)
    sample = make(model, golden=keep(tmp_path / "whole", {"input.x": x, "output.y": x}))
    assert sample.origin == "given"


def test_sequence_output_is_refused(tmp_path: Path) -> None:
    """A model that answers with a sequence cannot be served; the output and a remedy are named."""
    path = save(sequence(), tmp_path / "sequence.onnx")
    with pytest.raises(RefusedError, match=r"'y' of .* is sequence.*ConcatFromSequence.*zipmap"):
        make(path)


def test_map_output_is_refused(tmp_path: Path) -> None:
    """What a classifier of scikit-learn gives unless told otherwise: the remedy is that telling."""
    kind = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    graph = helper.make_graph(
        [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_value_info("y", kind)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    path = save(helper.make_model(graph, ir_version=10, opset_imports=opsets), tmp_path / "m.onnx")
    with pytest.raises(RefusedError, match=r"'y' of .* is map.*zipmap=False"):
        make(path)


def test_unknown_format_takes_its_signature_from_the_sample(tmp_path: Path) -> None:
    """A format that says nothing of itself is described by a whole sample, or refused."""
    path = tmp_path / "engine.plan"
    path.write_bytes(b"compiled elsewhere")
    with pytest.raises(UsageError, match="does not say what it takes"):
        make(path)
    x, y = np.ones((1, 4), np.float32), np.ones((1, 2), np.int64)
    sample = make(path, golden=keep(tmp_path / "whole", {"input.x": x, "output.y": y}))
    assert sample.signature.inputs == (TensorSpec(name="x", dtype="float32", shape=(1, 4)),)
    assert sample.signature.outputs == (TensorSpec(name="y", dtype="int64", shape=(1, 2)),)
    assert sample.tolerances == {"y": Tolerance(atol="0", rtol="0")}


def test_output_of_unknown_rank_takes_any_shape(tmp_path: Path) -> None:
    """Where the model does not say the rank, a sample from elsewhere decides it."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 21)]
    built = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    path = save(built, tmp_path / "m.onnx")
    x = np.ones((1, 4), np.float32)
    sample = make(path, golden=keep(tmp_path / "whole", {"input.x": x, "output.y": x}))
    assert sample.signature.outputs[0].shape == ()
    wrong = keep(tmp_path / "wrong", {"input.x": x[0], "output.y": x})
    with pytest.raises(UsageError, match="shape"):
        make(path, golden=wrong)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (TensorProto.FLOAT, ("1e-4", "1e-3")),
        (TensorProto.DOUBLE, ("1e-7", "1e-5")),
        (TensorProto.FLOAT16, ("1e-2", "1e-2")),
        (TensorProto.INT64, ("0", "0")),
        (TensorProto.BOOL, ("0", "0")),
        (TensorProto.STRING, ("0", "0")),
    ],
)
def test_tolerance_follows_the_type(tmp_path: Path, dtype: int, tolerance: tuple[str, str]) -> None:
    """Each type of output has its default; what is no float is compared exactly."""
    sample = make(save(identity(dtype), tmp_path / "m.onnx"))
    assert sample.tolerances == {"y": Tolerance(atol=tolerance[0], rtol=tolerance[1])}


def test_several_outputs_each_have_a_tolerance(tmp_path: Path) -> None:
    """A given tolerance counts for its output only; one that names no output is refused."""
    path = save(nonzero(), tmp_path / "m.onnx")
    mine = Tolerance(atol="0.5", rtol="0")
    sample = make(path, tolerances={"twice": mine})
    assert sample.tolerances == {"where": Tolerance(atol="0", rtol="0"), "twice": mine}
    with pytest.raises(UsageError, match="'thrice'"):
        make(path, tolerances={"thrice": mine})


def test_quantised_model_gets_looser_bounds(tmp_path: Path) -> None:
    """In a model of 8-bit weights the bounds grow with the expected values."""
    weights = numpy_helper.from_array(np.full((4, 64), 3, np.int8), "w")
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "s"], ["real"]),
            helper.make_node("MatMul", ["x", "real"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [weights, scale],
    )
    built = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    path = save(built, tmp_path / "int8.onnx")
    assert is_quantised(open_model(path))
    assert not is_quantised(open_model(save(linear(1.0), tmp_path / "fp32.onnx")))
    x = keep(tmp_path / "in", {"input.x": np.ones((1, 4), np.float32)})
    assert make(path, golden=x).tolerances == {"y": Tolerance(atol="0.3", rtol="0.05")}


@pytest.mark.parametrize(
    ("spec", "want", "atol"),
    [
        (TensorSpec(name="y", dtype="int8", shape=(1,)), np.array([9], np.int8), "2"),
        (TensorSpec(name="y", dtype="int64", shape=(1,)), np.array([9]), "0"),
        (TensorSpec(name="y", dtype="float32", shape=(0,)), np.zeros(0, np.float32), "1e-4"),
        (
            TensorSpec(name="y", dtype="float32", shape=(2,)),
            np.array([np.inf, np.nan], np.float32),
            "0.0001",
        ),
    ],
)
def test_quantised_outputs_of_every_kind(spec: TensorSpec, want: np.ndarray, atol: str) -> None:
    """8-bit outputs may be two steps off; indices stay exact; nothing finite means the default."""
    assert golden._quantised_tolerance(spec, want).atol == atol


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3, "0.3"), (12345.0, "12000"), (0.000123, "0.00012"), (1.0, "1"), (0.0, "0")],
)
def test_decimal_text(value: float, text: str) -> None:
    """Tolerances are written as plain decimals of two digits."""
    assert decimal_text(value) == text


def test_sample_bytes_are_readable_safetensors(model: Path) -> None:
    """The sample is a safetensors file that other tools read."""
    from safetensors.numpy import load

    assert set(load(io.BytesIO(make(model).data).getvalue())) == {"input.x", "output.y"}
