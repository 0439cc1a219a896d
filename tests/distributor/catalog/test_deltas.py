"""Deltas are recorded once for each source, target and capability set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distributor.catalog import CatalogDelta, add_delta, find_deltas
from edge_sdk.base import Digest
from tests.support.catalog import AT_MS, open_catalog


def _delta(target: Digest, source: Digest | None, **facts: object) -> CatalogDelta:
    made = CatalogDelta(
        source=source,
        target=target,
        capability="v0 copy+literal 1024",
        delta=Digest.of(f"{source} {target}".encode()),
        size_bytes=100,
        decoder_memory_bytes=1024,
        methods=("copy", "literal"),
        build_ms=5,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


def test_found_as_recorded(tmp_path: Path) -> None:
    """Deltas to a target are found, the whole among them, by capability set or all."""
    with open_catalog(tmp_path) as one:
        first, second = one.add_version("1.0.0"), one.add_version("2.0.0")
        whole, step = _delta(second, None), _delta(second, first)
        other = replace(step, capability="v0 copy 1", delta=Digest.of(b"other"))
        for delta in (whole, step, other):
            assert one.write(add_delta, delta, at_ms=AT_MS) == delta
        assert one.read(find_deltas, second, capability=step.capability) == [whole, step]
        assert len(one.read(find_deltas, second)) == 3
        assert one.read(find_deltas, first) == []


def test_the_first_one_stays(tmp_path: Path) -> None:
    """Where another process was first, its delta is the answer."""
    with open_catalog(tmp_path) as one:
        target = one.add_version("1.0.0")
        first = _delta(target, None)
        one.write(add_delta, first, at_ms=AT_MS)
        second = replace(first, delta=Digest.of(b"rebuilt"))
        assert one.write(add_delta, second, at_ms=AT_MS) == first
