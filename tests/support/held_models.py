"""ONNX artifacts with golden samples, as the store of a device holds them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from device_agent.records import Prepare
from device_agent.store import Store
from edge_sdk.base import Digest
from edge_sdk.engines import make_golden, open_engine
from edge_sdk.formats import write_safetensors
from edge_sdk.manifest import Golden, Manifest, Requirements, Signature, Tolerance, encode_manifest
from tests.support.artifacts import entry_of, make_artifact

ENTRY = "model.onnx"
GOLDEN = "golden.safetensors"
TOLERANCE = Tolerance(atol="1e-5", rtol="1e-4")


def hold(
    store: Store,
    model: onnx.ModelProto,
    *,
    name: str = "team/digits",
    version: str = "1.0.0",
    inputs: Mapping[str, NDArray[Any]] | None = None,
    extra: Mapping[str, bytes] | None = None,
    serve: Literal["inference", "none"] = "inference",
    engine: str = "onnxruntime",
) -> Digest:
    """Puts an artifact with its golden sample into the store, proved and linked as a tree."""
    scratch = store.root / "scratch"
    scratch.mkdir(exist_ok=True)
    path = scratch / ENTRY
    path.write_bytes(model.SerializeToString(deterministic=True))
    session = open_engine("onnxruntime").load(path)
    golden = io.BytesIO()
    write_safetensors(golden, make_golden(session, session.inputs, inputs))
    files = {ENTRY: path.read_bytes(), GOLDEN: golden.getvalue(), **(extra or {})}
    artifact = make_artifact(files, model=name, version=version, serve=serve)
    manifest: Manifest = replace(
        artifact.manifest,
        files=tuple(entry_of(one, files[one]) for one in sorted(files)),
        format="onnx",
        entry=ENTRY,
        requires=Requirements(engine=engine),
        signature=Signature(inputs=session.inputs, outputs=session.outputs),
        golden=Golden(
            path=GOLDEN,
            origin="seeded",
            tolerances={spec.name: TOLERANCE for spec in session.outputs},
        ),
    )
    session.close()
    document = encode_manifest(manifest)
    digest = Digest.of(document)
    store.artifacts.put(digest, document)
    for entry in manifest.files:
        (scratch / "blob").write_bytes(files[entry.path])
        store.blobs.place(scratch / "blob", entry.digest)
    store.trees.build(digest, manifest)
    return digest


def prepare(store: Store, artifact: Digest) -> Prepare:
    """The message with which the updater asks for it."""
    manifest = store.manifest(artifact)
    assert manifest.requires.engine is not None
    return Prepare(
        model=str(manifest.model),
        artifact=artifact,
        version=str(manifest.version),
        variant=manifest.variant,
        folder=str(store.tree(artifact)),
        entry=manifest.entry,
        engine=manifest.requires.engine,
        golden_path=manifest.golden.path if manifest.golden else None,
        tolerances=dict(manifest.golden.tolerances) if manifest.golden else {},
        inputs=manifest.signature.inputs,
        outputs=manifest.signature.outputs,
    )


def damage(path: Path) -> None:
    """Changes one byte of a held file, as flash that rots does, keeping its inode."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def ones(rows: int = 1, features: int = 4) -> NDArray[np.float32]:
    return np.ones((rows, features), np.float32)
