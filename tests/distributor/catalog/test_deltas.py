"""Deltas are recorded once for each source, target and capability set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distributor.catalog import (
    CatalogDelta,
    add_delta,
    delta_bytes,
    find_deltas,
    list_deltas,
    remove_deltas,
    unknown_blobs,
)
from distributor.planning import StoredDelta
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
        built_ms=AT_MS,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


def test_found_as_recorded(tmp_path: Path) -> None:
    """Deltas to a target are found, the whole among them, by capability set or all."""
    with open_catalog(tmp_path) as one:
        first, second = one.add_version("1.0.0"), one.add_version("2.0.0")
        whole, step = _delta(second, None), _delta(second, first)
        other = replace(step, capability="v0 copy 1", delta=Digest.of(b"other"))
        for delta in (whole, step, other):
            assert one.write(add_delta, delta) == delta
        assert one.read(find_deltas, second, capability=step.capability) == [whole, step]
        assert len(one.read(find_deltas, second)) == 3
        assert one.read(find_deltas, first) == []


def test_the_first_one_stays(tmp_path: Path) -> None:
    """Where another process was first, its delta is the answer."""
    with open_catalog(tmp_path) as one:
        target = one.add_version("1.0.0")
        first = _delta(target, None)
        one.write(add_delta, first)
        second = replace(first, delta=Digest.of(b"rebuilt"))
        assert one.write(add_delta, second) == first


def test_listed_by_targets_and_sources(tmp_path: Path) -> None:
    """Deltas to several targets are found at once, all or those from given sources."""
    with open_catalog(tmp_path) as one:
        first, second, third = (one.add_version(f"{n}.0.0") for n in (1, 2, 3))
        made = [_delta(second, first), _delta(third, first), _delta(third, second)]
        for delta in (*made, _delta(third, None)):
            one.write(add_delta, delta)
        found = one.read(list_deltas, [second, third], sources=[first])
        assert sorted(found, key=lambda delta: str(delta.delta)) == sorted(
            made[:2], key=lambda delta: str(delta.delta)
        )
        assert len(one.read(list_deltas, [second, third])) == 4
        assert one.read(list_deltas, []) == []


def test_removed_with_their_blobs(tmp_path: Path) -> None:
    """A delta that is removed takes its blob's row along, unless another delta has the same
    bytes; those count once in the sum."""
    with open_catalog(tmp_path) as one:
        target = one.add_version("1.0.0")
        first = _delta(target, None)
        second = replace(first, capability="v0 copy 1")
        for delta in (first, second):
            one.write(add_delta, delta)
        assert one.read(delta_bytes) == 100
        assert one.write(remove_deltas, [_stored(first)]) == []
        assert one.read(find_deltas, target) == [second]
        assert one.write(remove_deltas, [_stored(second)]) == [first.delta]
        assert one.read(delta_bytes) == 0
        assert one.read(unknown_blobs, [first.delta]) == [first.delta]
        assert one.write(remove_deltas, [_stored(second)]) == [first.delta]


def _stored(one: CatalogDelta) -> StoredDelta:
    return StoredDelta(
        source=one.source,
        target=one.target,
        capability=one.capability,
        delta=one.delta,
        size_bytes=one.size_bytes,
        built_ms=one.built_ms,
        is_written=True,
    )
