"""The report names everything that is needed to make the same bytes again."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from quantize.calibrate import read_samples
from quantize.graph import read_float_model
from quantize.profiles import load_profile
from quantize.report import report_document
from quantize.targets import quantise_static
from tests.support.float_models import mlp_model, write_calibration


def test_report_is_complete(tmp_path: Path) -> None:
    """Digests of model, samples and result, the recipe, the versions: all in plain JSON."""
    path = tmp_path / "m.onnx"
    onnx.save(mlp_model(), path)
    calibration = write_calibration(tmp_path / "c.npz")
    model, profile = read_float_model(path), load_profile("onnx-cpu-x86")
    samples = read_samples(calibration, model.inputs, 32)
    made = quantise_static(model, samples, profile)
    report = report_document(
        model=model, samples=samples, profile=profile, made=made, file="model.onnx"
    )
    assert json.loads(json.dumps(report)) == report
    assert report["source"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report["calibration"] == {
        "samples": 70,
        "left_out": 0,
        "batch": 32,
        "sha256": hashlib.sha256(calibration.read_bytes()).hexdigest(),
    }
    assert report["model"]["sha256"] == hashlib.sha256(made.data).hexdigest()
    assert report["model"]["share_of_source"] == pytest.approx(
        len(made.data) / model.size_bytes, abs=1e-4
    )
    assert report["target"]["reduce_range"] is True
    assert report["made_on"]["onnxruntime"] == ort.__version__
    assert report["made_on"]["architecture"] == platform.machine()
