"""The rows on a pair of files: right figures, and a delta that is proved to give its target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import codec
from benchmarks.trained_pair import Pair
from demo import graph, mlp


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    layers = mlp.fresh((16, 64, 8), seed=2)
    tuned = tuple(mlp.Layer(one.weight * np.float32(1.0001), one.bias) for one in layers)
    graph.write_model(layers, tmp_path / "source.onnx")
    graph.write_model(tuned, tmp_path / "target.onnx")
    return Pair(precision="fp32", source=tmp_path / "source.onnx", target=tmp_path / "target.onnx")


def test_a_pair_gives_sizes_and_speeds(pair: Pair, tmp_path: Path) -> None:
    """Sizes are ratios of real bytes, speeds have a sample for each round."""
    rows = {row.id: row for row in codec._pair_rows(pair, "fp32.x", 1e-4, tmp_path, rounds=2)}
    delta_bytes = (tmp_path / "fp32.delta").stat().st_size
    target_bytes = pair.target.stat().st_size
    assert rows["size.fp32.x.share"].value == pytest.approx(delta_bytes / target_bytes)
    against_zstd = rows["size.fp32.x.zstd"]
    assert against_zstd.anchor is not None
    assert against_zstd.value == pytest.approx(delta_bytes / against_zstd.anchor.value)
    assert len(rows["speed.encode.fp32.x"].samples) == 2
    assert all(sample > 0 for sample in rows["speed.apply.fp32.x"].samples)
    assert (tmp_path / "fp32.rebuilt").read_bytes() == pair.target.read_bytes()


def test_zstd_looks_back_into_the_source(tmp_path: Path) -> None:
    """The anchor finds the source's bytes: a copy of random bytes costs next to nothing."""
    data = np.random.default_rng(4).bytes(1 << 20)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data[: 1 << 19] + b"something new" + data[1 << 19 :])
    assert codec.zstd_patch_bytes(tmp_path / "a", tmp_path / "b") < 1000
