"""What is loaded from a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.serving.load import order_of
from device_agent.store import Store
from edge_sdk.base import RefusedError
from edge_sdk.manifest import Requirements
from tests.support import onnx_models
from tests.support.held_models import ENTRY, GOLDEN, hold


def test_an_order_says_what_the_manifest_says(tmp_path: Path) -> None:
    """Entry, engine, golden sample and signature come from the manifest."""
    store = Store.create(tmp_path / "state")
    artifact = hold(store, onnx_models.linear(1.0), version="3.0.0")
    manifest = store.manifest(artifact)
    order = order_of(artifact, manifest, store.tree(artifact))
    assert (order.entry, order.golden_path, order.version) == (ENTRY, GOLDEN, "3.0.0")
    assert order.inputs == manifest.signature.inputs
    assert order.engine == "onnxruntime"
    with pytest.raises(RefusedError, match="names no engine"):
        order_of(artifact, replace(manifest, requires=Requirements()), store.tree(artifact))
