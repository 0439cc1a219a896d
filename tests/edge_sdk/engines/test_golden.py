"""Golden samples: made from a model, replayed on another."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from edge_sdk.base import FormatError, UsageError
from edge_sdk.engines import Session, make_golden, open_engine, replay
from edge_sdk.engines.golden import _restore, _store, compare, golden_inputs, seeded_inputs
from edge_sdk.formats import read_safetensors, write_safetensors
from edge_sdk.manifest import TensorSpec, Tolerance
from tests.support import onnx_models

EXACT = Tolerance(atol="0", rtol="0")


def session_of(model: Any, folder: Path) -> Session:
    return open_engine("onnxruntime").load(onnx_models.save(model, folder / "model.onnx"))


def through_file(tensors: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What an artifact's file gives back."""
    stream = io.BytesIO()
    write_safetensors(stream, tensors)
    path = folder / "golden.safetensors"
    path.write_bytes(stream.getvalue())
    return read_safetensors(path)


@pytest.mark.parametrize(
    "number",
    [
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.BOOL,
        TensorProto.STRING,
    ],
)
def test_a_sample_made_here_passes_here(tmp_path: Path, number: int) -> None:
    """For every kind of tensor, seeded, through the file and with no tolerance at all."""
    session = session_of(onnx_models.identity(number, ["n", 3]), tmp_path)
    sample = make_golden(session, session.inputs, None)
    assert set(sample) == {"input.x", "output.y"}
    result = replay(session, through_file(sample, tmp_path), {"y": EXACT})
    assert result.ok
    assert result.mismatches == ()
    assert result.compute_ns > 0


def test_other_weights_are_found(tmp_path: Path) -> None:
    """A model that computes something else is named with the output and both values."""
    sample = make_golden(
        session_of(onnx_models.linear(2.0), tmp_path),
        (),
        {"x": np.ones((2, 4), np.float32)},
    )
    result = replay(session_of(onnx_models.linear(2.5), tmp_path), sample, {"y": EXACT})
    assert not result.ok
    assert "'y' differs in 8 of 8" in result.mismatches[0]
    assert "got 2.5, expected 2.0" in result.mismatches[0]


def test_the_tolerance_decides(tmp_path: Path) -> None:
    """A difference of 1 % passes with rtol 0.02 and fails with the default."""
    sample = make_golden(
        session_of(onnx_models.linear(2.0), tmp_path), (), {"x": np.ones((1, 4), np.float32)}
    )
    near = session_of(onnx_models.linear(2.02), tmp_path)
    assert replay(near, sample, {"y": Tolerance(atol="0", rtol="0.02")}).ok
    assert not replay(near, sample, {}).ok


def test_nan_equals_nan_only(tmp_path: Path) -> None:
    """The same NaN at the same place passes; a NaN instead of a number does not."""
    session = session_of(onnx_models.identity(TensorProto.FLOAT), tmp_path)
    sample = make_golden(session, (), {"x": np.array([np.nan, 1, np.inf], np.float32)})
    assert replay(session, sample, {}).ok
    sample["output.y"] = np.array([np.nan, np.nan, np.inf], np.float32)
    assert "1 of 3" in replay(session, sample, {}).mismatches[0]


def test_another_shape_is_a_mismatch(tmp_path: Path) -> None:
    """An output of another shape is told with both shapes."""
    session = session_of(onnx_models.identity(TensorProto.FLOAT), tmp_path)
    sample = make_golden(session, (), {"x": np.ones(3, np.float32)})
    sample["output.y"] = np.ones(4, np.float32)
    assert "shape [3], expected [4]" in replay(session, sample, {}).mismatches[0]


def test_large_integers_are_compared_exactly(tmp_path: Path) -> None:
    """Two integers that differ in the last of 63 bits differ."""
    session = session_of(onnx_models.identity(TensorProto.INT64), tmp_path)
    sample = make_golden(session, (), {"x": np.array([2**62], np.int64)})
    sample["output.y"] = np.array([2**62 + 1], np.int64)
    assert not replay(session, sample, {"y": EXACT}).ok


def test_a_sample_without_fitting_outputs_is_refused(tmp_path: Path) -> None:
    """No output, or one that the model lacks, is a UsageError."""
    session = session_of(onnx_models.linear(2.0), tmp_path)
    sample = make_golden(session, session.inputs, None)
    with pytest.raises(UsageError, match="no output"):
        replay(session, {"input.x": sample["input.x"]}, {})
    with pytest.raises(UsageError, match="'z'"):
        replay(session, {**sample, "output.z": sample["output.y"]}, {})
    with pytest.raises(UsageError, match="missing"):
        replay(session, {"output.y": sample["output.y"]}, {})
    assert compare(session, {"y": sample["output.y"]}, sample, {}) == ()


def test_given_inputs_need_not_lie_in_order(tmp_path: Path) -> None:
    """A transposed input is accepted and kept as values."""
    session = session_of(onnx_models.linear(2.0), tmp_path)
    x = np.arange(8, dtype=np.float32).reshape(4, 2).T
    sample = make_golden(session, (), {"x": x})
    assert (sample["output.y"] == 2 * x).all()


def test_seeded_inputs_repeat_and_fit() -> None:
    """The same seed gives the same tensors; dynamic dimensions are 1; wide integers are 0 or 1."""
    specs = [
        TensorSpec(name="f", dtype="float16", shape=(-1, 3)),
        TensorSpec(name="i", dtype="int32", shape=(40,)),
        TensorSpec(name="u", dtype="uint8", shape=(200,)),
        TensorSpec(name="s", dtype="string", shape=(2,)),
    ]
    one, two, other = seeded_inputs(specs), seeded_inputs(specs), seeded_inputs(specs, seed=1)
    assert all((one[name] == two[name]).all() for name in one)
    assert (one["u"] != other["u"]).any()
    assert one["f"].shape == (1, 3)
    assert set(np.unique(one["i"])) == {0, 1}
    assert one["u"].max() > 200
    assert list(one["s"]) == ["sample", "sample"]


@given(st.lists(st.text(max_size=8), max_size=6))
def test_strings_survive_their_storage(texts: list[str]) -> None:
    """Any text, empty and with zeros at its end too, comes back."""
    array = np.array([*texts, ""], object)[:-1]
    assert list(_restore(_store(array), "string")) == texts


@pytest.mark.parametrize(
    "stored",
    [
        np.zeros(0, np.uint8).reshape(1, 0),
        np.zeros((1, 4), np.int8),
        np.array([[9, 0, 0, 0, 65]], np.uint8),
        np.array([[1, 0, 0, 0, 0xFF]], np.uint8),
    ],
)
def test_damaged_strings_are_refused(tmp_path: Path, stored: Any) -> None:
    """A stored string that is cut, too long or not UTF-8 is a FormatError."""
    session = session_of(onnx_models.identity(TensorProto.STRING), tmp_path)
    with pytest.raises(FormatError):
        golden_inputs(session, {"input.x": stored})
