"""Our own figures on a pair: measured in children that are watched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.delta import ours
from benchmarks.delta.pairs import Pair
from edge_sdk.formats import write_safetensors


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    random = np.random.default_rng(3)
    values = random.standard_normal(200_000).astype(np.float32)
    tuned = values * random.normal(1, 0.001, len(values)).astype(np.float32)
    for name, one in (("old.st", values), ("new.st", tuned)):
        with (tmp_path / name).open("wb") as stream:
            write_safetensors(stream, {"a": one})
    return Pair(id="made", row="", old=tmp_path / "old.st", new=tmp_path / "new.st")


def test_size_time_memory_and_bound_are_measured(pair: Pair) -> None:
    """All of them of one delta that gives its target back; nothing is left behind."""
    found = ours.measure(pair)
    assert 0 < found["bytes"] < pair.new_bytes
    assert 0.5 < found["bytes"] / found["bound_bytes"] < 1.5
    for job in ("encode", "apply", "decode"):
        assert found[f"{job}_wall_s"] > 0
        assert found[f"{job}_cpu_s"] > 0
    assert found["encode_peak_bytes"] > 0
    assert 0 < found["memory_declared_bytes"] <= 32 << 20
    assert sorted(path.name for path in pair.new.parent.iterdir()) == ["new.st", "old.st"]


def test_from_memory_the_target_is_compared(pair: Pair, tmp_path: Path) -> None:
    """Seconds count only where the bytes of the target come out."""
    made, other = tmp_path / "delta", tmp_path / "other"
    ours.run_job("encode", pair.old, pair.new, made)
    assert ours.run_job("memory", pair.old, pair.new, made).wall_s > 0
    other.write_bytes(pair.new.read_bytes()[:-1] + b"?")
    with pytest.raises(RuntimeError, match="memory"):
        ours.run_job("memory", pair.old, other, made)


def test_a_child_that_fails_is_an_error(pair: Pair, tmp_path: Path) -> None:
    """No figure comes from a job that did not end well."""
    (tmp_path / "delta").write_bytes(b"no delta")
    with pytest.raises(RuntimeError, match="apply"):
        ours.run_job("apply", pair.old, tmp_path / "out", tmp_path / "delta")


def test_the_bound_is_left_out_where_nothing_is_known(tmp_path: Path) -> None:
    """Opaque files count as one range of bytes; files that cannot be read have no bound."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"")
    pair = Pair(id="made", row="", old=broken, new=broken)
    assert ours.bound_bytes(pair) in {0, None}


def test_engine_version_is_stable() -> None:
    """The same engine has the same version."""
    assert ours.engine_version() == ours.engine_version()
    assert len(ours.engine_version()) == 16


def test_a_delta_that_reads_its_target_is_decoded(tmp_path: Path) -> None:
    """The same bytes twice in the target travel once, and are read from where they were made."""
    before, after = np.random.default_rng(3).standard_normal((2, 50_000)).astype(np.float32)
    for name, tensors in (("old.st", {"a": before}), ("new.st", {"b": after, "c": after})):
        with (tmp_path / name).open("wb") as stream:
            write_safetensors(stream, tensors)
    pair = Pair(id="twice", row="", old=tmp_path / "old.st", new=tmp_path / "new.st")
    found = ours.measure(pair, bound=False)
    assert found["bytes"] < 0.6 * pair.new_bytes
    assert found["decode_wall_s"] > 0
