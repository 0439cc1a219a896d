"""The report as one JSON document. Same inputs and machine, same document: no clock in it."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from importlib.metadata import version
from typing import Any

import msgspec

from quantize.calibrate import Samples
from quantize.graph import FloatModel
from quantize.profiles import Profile
from quantize.report.machine import cpu_features
from quantize.targets import Quantised

SCHEMA = 1


def report_document(
    *, model: FloatModel, samples: Samples, profile: Profile, made: Quantised, file: str
) -> dict[str, Any]:
    """Everything that is needed to make the same bytes again, and how well they agree."""
    return {
        "schema": SCHEMA,
        "target": msgspec.json.decode(msgspec.json.encode(profile)),
        "source": {
            "size_bytes": model.size_bytes,
            "sha256": model.sha256,
            "opset": model.opset,
            "heavy_nodes": model.heavy_nodes,
        },
        "model": {
            "file": file,
            "size_bytes": len(made.data),
            "sha256": hashlib.sha256(made.data).hexdigest(),
            "share_of_source": round(len(made.data) / model.size_bytes, 4),
            "ir_version": made.ir_version,
            "opsets": dict(made.opsets),
            "operators": dict(made.operators),
        },
        "calibration": {
            "samples": samples.count,
            "left_out": samples.left_out,
            "batch": samples.batch,
            "sha256": samples.sha256,
        },
        "made_on": {
            "architecture": platform.machine(),
            "cpu_features": list(cpu_features()),
            **{name: version(name) for name in ("edge-model-sdk", "onnx", "onnxruntime")},
        },
        "agreement_on_calibration": {
            name: dataclasses.asdict(one) for name, one in made.agreement.items()
        },
    }
