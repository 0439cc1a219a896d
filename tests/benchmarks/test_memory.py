"""The synthetic model: what it holds, and that a child's memory is really watched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks import memory


def test_the_synthetic_pair_is_a_small_change_of_normal_weights(tmp_path: Path) -> None:
    """Two safetensors files of one layout; most tensors differ a little in every weight."""
    source, target = memory.write_synthetic_pair(tmp_path, model_bytes=1 << 20)
    old, new = source.read_bytes(), target.read_bytes()
    assert len(old) == len(new)
    header_bytes = int.from_bytes(old[:8], "little")
    header = json.loads(old[8 : 8 + header_bytes])
    assert old[: 8 + header_bytes] == new[: 8 + header_bytes]
    assert sum(np.prod(one["shape"]) * 4 for one in header.values()) == 1 << 20
    weights = [np.frombuffer(data[8 + header_bytes :], np.float32) for data in (old, new)]
    change = np.abs(weights[1] - weights[0]) / np.abs(weights[0]).clip(1e-9)
    assert 0.0005 < np.median(change) < 0.002


def test_memory_of_a_running_process_is_seen() -> None:
    """RssAnon of this process is some megabytes; of a process that is gone, nothing."""
    import os

    assert memory.rss_anon(os.getpid()) > 1 << 20
    assert memory.rss_anon(2**22 - 1) == 0
