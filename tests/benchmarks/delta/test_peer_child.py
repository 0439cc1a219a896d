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
    """Its size is that of its payloads, smaller than the tensor; all of the file comes back."""
    made = child("make", "bitx", bundle, bundle / "delta")
    assert made["bytes"] is not None
    assert 8_000 < float(made["bytes"]) < 20_000
    assert "wall_s" in child("apply", "bitx", bundle, bundle / "delta")
    assert (bundle / "rebuilt").read_bytes() == (bundle / "new").read_bytes()
    assert "wall_s" in child("decode", "bitx", bundle, bundle / "delta")


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_peer_proves_source_and_target(bundle: Path, name: str) -> None:
    """As ours does: where a digest differs no file is left."""
    child("make", "bitx", bundle, bundle / "delta")
    digests = json.loads((bundle / "digests.json").read_text())
    (bundle / "digests.json").write_text(json.dumps({**digests, name: "0" * 64}))
    with pytest.raises(subprocess.CalledProcessError):
        child("apply", "bitx", bundle, bundle / "delta")
    assert not (bundle / "rebuilt").exists()


def test_tools_that_know_files_only_have_no_time_in_memory(bundle: Path) -> None:
    """A command's time in memory is not its time with files."""
    assert child("decode", "xdelta3", bundle, bundle / "delta")["why"] == "not applicable"


def test_what_lies_between_tensors() -> None:
    """Also where tensors share bytes, and at both ends."""
    assert list(peer_child._gaps([(2, 4), (3, 6), (6, 8)], 10)) == [(0, 2), (8, 10)]
    assert peer_child._rest(b"0123456789", [(2, 4), (3, 6)]) == b"016789"


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
