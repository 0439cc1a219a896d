"""The table of targets from measured pairs: never met where something lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.delta import verdict
from benchmarks.delta.pairs import Pair
from benchmarks.delta.peers import ALL, GENERIC, XOR
from benchmarks.delta.verdict import LISTED, Measured


def measured(
    tmp_path: Path, ours: int | None, sizes: dict[str, int | None], row: str = "bf16", **facts: Any
) -> Measured:
    new = tmp_path / "new"
    new.write_bytes(bytes(1000))
    pair = Pair(id="one", row=row, old=new, new=new, facts=facts)
    bound = None if ours is None else {"bytes": ours, "bound_bytes": 100}
    peers = {name: {"bytes": size, "version": "1"} for name, size in sizes.items()}
    return Measured(pair=pair, ours=bound, peers=peers)


def facts(rate: float = 1e-5, **others: Any) -> dict[str, Any]:
    base = {"rate": rate, "dtype": "bf16", "network": "lm", "weights": 2_000_000, "changed": 0.9}
    return {**base, **others}


def by_id(rows: list[Any]) -> dict[str, Any]:
    return {row.id: row for row in rows}


def test_shares_are_of_the_smallest_of_the_named_peers(tmp_path: Path) -> None:
    """A smaller generic tool does not count where only the XOR tools are named."""
    sizes: dict[str, int | None] = {**dict.fromkeys(ALL, 200), "zstd": 50, "bitx": 160}
    one = measured(tmp_path, 80, sizes, **facts())
    other = measured(tmp_path, 160, sizes, **facts(1e-3))
    rows = by_id(verdict.size_rows([one, other]))
    assert rows["size.bf16.each"].value == 0.5
    assert rows["size.bf16.each"].met
    assert rows["size.bf16.fast"].value == 1.0
    assert rows["size.bf16.fast"].met is False
    assert rows["size.bf16.mean"].value == pytest.approx(0.5**0.5)
    assert rows["size.bf16.mean"].samples == (0.5, 1.0)


def test_missing_peers_and_pairs_are_never_met(tmp_path: Path) -> None:
    """A peer that did not run, a pair that was not measured, and no pair at all."""
    partial = measured(tmp_path, 10, dict.fromkeys(XOR[:2], 200), **facts())
    row = by_id(verdict.size_rows([partial]))["size.bf16.mean"]
    assert row.met is None
    assert "peers missing: bitx on 1; so far 0.050" in row.what
    unmeasured = measured(tmp_path, None, dict.fromkeys(ALL, 200), **facts())
    row = by_id(verdict.size_rows([unmeasured]))["size.bf16.mean"]
    assert row.met is None
    assert "0 of 1 measured" in row.what
    rows = by_id(verdict.published_rows([]))
    assert "no such pair" in rows["size.derived.mean"].what
    assert all(row.met is None for row in rows.values())


def test_a_peer_beyond_memory_counts_as_run(tmp_path: Path) -> None:
    """Null is a result; the smallest of the others is the measure."""
    sizes: dict[str, int | None] = {**dict.fromkeys(GENERIC, 300), "bsdiff": None}
    one = measured(tmp_path, 150, sizes, row="fp16", **facts(dtype="fp16"))
    assert by_id(verdict.size_rows([one]))["size.fp16.mean"].value == 0.5


def test_given_pairs_need_the_listed_peers_only(tmp_path: Path) -> None:
    """detools is not among the sizes that come with given pairs."""
    one = measured(tmp_path, 45, dict.fromkeys(LISTED, 100), row="fine-tune")
    rows = by_id(verdict.published_rows([one]))
    assert rows["size.fine-tune.mean"].value == pytest.approx(0.45)
    assert rows["size.every"].value == 0  # 256 bytes are allowed
    assert rows["size.every"].met


def test_bound_counts_large_changes_only(tmp_path: Path) -> None:
    """A pair of which little changed is not compared with the entropy."""
    peers: dict[str, int | None] = dict.fromkeys(ALL, 200)
    dense, sparse = (
        measured(tmp_path, 101, peers, **facts()),
        measured(tmp_path, 400, peers, **facts(changed=0.05)),
    )
    rows = by_id(verdict.bound_rows([dense, sparse]))
    assert rows["bound.floats"].value == pytest.approx(1.01)
    assert rows["bound.lm"].met is False
    assert rows["bound.int8"].met is None


def test_each_pair_has_a_row_without_a_target(tmp_path: Path) -> None:
    """It names the smallest peer with its version, and who is missing."""
    one = measured(tmp_path, 90, {"zstd": 300, "pcodec": 180}, **facts())
    (row,) = verdict.pair_rows([one])
    assert (row.id, row.value, row.target) == ("pair.bf16.one", 0.5, None)
    assert row.anchor is not None
    assert (row.anchor.name, row.anchor.value) == ("pcodec", 180)
    assert "peers missing: xdelta3" in row.what
