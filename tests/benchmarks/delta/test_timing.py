"""Our time beside that of the peer with the smallest delta."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.delta import timing
from benchmarks.delta.pairs import Pair
from benchmarks.delta.verdict import Measured


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    pair = Pair(id="one", row="bf16", old=tmp_path, new=tmp_path, facts={"rate": 1})
    peers = {
        "zstd": {"bytes": 50, "version": "1.5"},
        "bsdiff": {"bytes": None, "version": "4"},
        "pcodec": {"bytes": 40, "version": "1.1"},
    }
    return Measured(pair=pair, ours={"bytes": 30}, peers=peers)


def test_it_is_the_median_in_turns(measured: Measured) -> None:
    """Samples are ours of its median, on the same work; the fastest peer does not matter."""
    files = {"ours": [0.2, 0.1, 0.3], "zstd": [0.01], "pcodec": [0.3, 0.4, 0.5]}
    memory = {"ours": [0.3], "pcodec": [0.1]}
    beside, within = timing.rows_of(measured, {"files_s": files, "memory_s": memory})
    assert beside.value == pytest.approx(0.5)
    assert beside.met
    assert beside.anchor is not None
    assert (beside.anchor.name, beside.anchor.value) == ("pcodec, seconds", 0.4)
    assert within.value == pytest.approx(3)
    assert within.met is False


@pytest.mark.parametrize(
    "times", [None, {f"{work}_s": {"ours": [0.2], "zstd": [0.1]} for work in ("files", "memory")}]
)
def test_without_its_time_nothing_is_met(
    measured: Measured, times: dict[str, dict[str, list[float]]] | None
) -> None:
    """Peers that are not installed, or the smallest of them not timed."""
    for row in timing.rows_of(measured, times):
        assert row.value is None
        assert row.met is None
