"""ONNX artifacts with a golden sample, as they are published: bytes and manifest."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from edge_sdk.engines import make_golden, open_engine
from edge_sdk.formats import write_safetensors
from edge_sdk.manifest import Golden, Requirements, Signature, Tolerance
from tests.support.artifacts import ArtifactBytes, entry_of, make_artifact

ENTRY = "model.onnx"
GOLDEN = "golden.safetensors"


def model_artifact(
    model: onnx.ModelProto,
    *,
    name: str = "team/digits",
    version: str = "1.0.0",
    extra: Mapping[str, bytes] | None = None,
    golden_of: onnx.ModelProto | None = None,
    memory_bytes: int = 0,
) -> ArtifactBytes:
    """``golden_of``: the model that makes the expected outputs, where it is not the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ENTRY
        path.write_bytes((golden_of or model).SerializeToString(deterministic=True))
        session = open_engine("onnxruntime").load(path)
        golden = io.BytesIO()
        write_safetensors(golden, make_golden(session, session.inputs, None))
        signature = Signature(inputs=session.inputs, outputs=session.outputs)
        session.close()
    data = model.SerializeToString(deterministic=True)
    files: dict[str, Any] = {ENTRY: data, GOLDEN: golden.getvalue(), **(extra or {})}
    artifact = make_artifact(files, model=name, version=version, serve="inference")
    manifest = replace(
        artifact.manifest,
        files=tuple(entry_of(one, files[one]) for one in sorted(files)),
        format="onnx",
        entry=ENTRY,
        requires=Requirements(engine="onnxruntime", memory_bytes=memory_bytes),
        signature=signature,
        golden=Golden(
            path=GOLDEN,
            origin="seeded",
            tolerances={one.name: Tolerance(atol="1e-5", rtol="1e-4") for one in signature.outputs},
        ),
    )
    return ArtifactBytes(manifest=manifest, files=files)
