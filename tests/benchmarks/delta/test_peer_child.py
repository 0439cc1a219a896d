"""The BitX-equivalent and the order of floats, which need no peer but zstandard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.delta import peer_child
from benchmarks.delta.pairs import Pair
from benchmarks.delta.peers import write_bundle
from edge_sdk.formats import write_safetensors


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    values = np.random.default_rng(3).standard_normal(5000).astype(np.float32)
    for name, factor in (("old.st", 1.0), ("new.st", 1.001)):
        with (tmp_path / name).open("wb") as stream:
            write_safetensors(stream, {"a": values * np.float32(factor)})
    (tmp_path / "bundle").mkdir()
    pair = Pair(id="made", row="", old=tmp_path / "old.st", new=tmp_path / "new.st")
    return write_bundle(pair, tmp_path / "bundle")


def child(*words: str | Path) -> dict[str, float | str | None]:
    ended = subprocess.run(
        [sys.executable, peer_child.__file__, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, float | str | None] = json.loads(ended.stdout)
    return answer


def test_bitx_makes_and_gives_back(bundle: Path) -> None:
    """Its size is that of its payloads, smaller than the tensor; applying proves it."""
    made = child("make", "bitx", bundle, bundle / "delta")
    assert made["bytes"] is not None
    assert 8_000 < float(made["bytes"]) < 20_000
    assert "wall_s" in child("apply", "bitx", bundle, bundle / "delta")


def test_float_tools_need_tensors(bundle: Path) -> None:
    """Without any the answer is that the tool is not applicable."""
    (bundle / "tensors.json").unlink()
    made = child("make", "bitx", bundle, bundle / "delta")
    assert made == {"bytes": None, "why": "not applicable"}


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8"])
def test_order_of_floats_is_reversible(kind: str) -> None:
    """Ordered integers rise with the floats, and lead back to the same bytes."""
    values = np.sort(np.random.default_rng(4).standard_normal(100) * 50).astype(kind)
    ordered = peer_child._ordered(kind, values.tobytes())
    if kind != "int8":
        assert (np.diff(ordered.astype(np.float64)) >= 0).all()
    assert peer_child._unordered(kind, ordered) == values.tobytes()
