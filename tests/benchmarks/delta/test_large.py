"""Large files after a trained pair: the same numbers in another order, nothing that repeats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.delta import large
from benchmarks.delta.generated import safetensors_bytes
from benchmarks.delta.pairs import Pair
from edge_sdk.formats import open_model

COUNT = 50_001


@pytest.fixture
def small(tmp_path: Path) -> Pair:
    """Each new value tells which old one it stands beside."""
    paths = tmp_path / "old", tmp_path / "new"
    for path, step in zip(paths, (0, 7), strict=True):
        values = (np.arange(COUNT) + step).astype(np.uint16)
        path.write_bytes(safetensors_bytes({"a": values}))
    return Pair(id="x", row="bf16", old=paths[0], new=paths[1], facts={"dtype": "bf16"})


def test_values_stay_beside_each_other(
    small: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value of both files comes with its partner; each round is in another order."""
    monkeypatch.setattr(large, "_TENSOR_BYTES", 1 << 18)
    pair = large.write_large(small, tmp_path / "large", 1 << 20)
    opened = open_model(pair.old)
    assert [one.dtype for one in opened.tensors] == ["bfloat16"] * 4
    assert opened.tensors[0].shape == (32, 4096)
    old, new = (large._values(path) for path in (pair.old, pair.new))
    assert len(old) == 4 << 17
    assert np.array_equal(old + np.uint16(7), new)
    first, second = old[:COUNT], old[COUNT : 2 * COUNT]
    assert np.array_equal(np.sort(first), np.sort(second))
    assert not np.array_equal(first, second)
    assert (np.diff(first.astype(np.int64)) != 1).all()


def test_figures_of_a_large_pair(
    small: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speed and memory rows have figures, and the files are gone afterwards."""
    monkeypatch.setattr(large, "_TENSOR_BYTES", 1 << 18)
    monkeypatch.setattr(large, "SPEED_BYTES", 1 << 20)
    rows = large.speed_rows([small], tmp_path / "large", rounds=1)
    rows += large.memory_rows(small, tmp_path / "large", 1 << 20)
    assert [row.id for row in rows] == [
        "speed.encode.bf16", "speed.decode.bf16", "speed.apply.bf16", "memory.apply.0",
        "memory.declared.0"]  # fmt: skip
    assert all(row.value is not None and row.value >= 0 for row in rows)
    assert list((tmp_path / "large").iterdir()) == []
