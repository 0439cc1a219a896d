"""What a delta holds, without its source."""

from pathlib import Path

import pytest

from edge_sdk.base import DeltaError, NotFoundError
from edge_sdk.delta import FORMAT_VERSION, inspect
from tests.edge_sdk.delta.conftest import Example
from tests.support.deltas import record_spans, resealed


def put(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "delta").write_bytes(data)
    return tmp_path / "delta"


def test_it_counts_what_is_there(small: Example, tmp_path: Path) -> None:
    """Records, bytes made and bytes taken by method, files and sizes, to the byte."""
    facts = inspect(put(tmp_path, small.delta))
    spans = list(record_spans(small.delta))
    assert facts.version == FORMAT_VERSION
    assert facts.folder
    assert set(facts.methods) == {"copy", "literal", "patch", "residual", "table"}
    assert sum(use.records for use in facts.methods.values()) == len(spans) - 1
    assert sum(use.target_bytes for use in facts.methods.values()) == sum(map(len, small.targets))
    taken = sum(end - start for kind, start, end in spans if kind)
    assert sum(use.delta_bytes for use in facts.methods.values()) == taken
    assert facts.prefix_bytes == spans[0][1]
    assert facts.delta_bytes == len(small.delta)
    assert [file.size_bytes for file in facts.sources] == [len(data) for data in small.sources]
    assert facts.chunks == 5
    assert facts.tables == 4


def test_damage_is_found_without_the_source(small: Example, tmp_path: Path) -> None:
    """Every truncation, appended bytes and a flip in every record are DeltaErrors."""
    for length in range(0, len(small.delta), 7):
        with pytest.raises(DeltaError):
            inspect(put(tmp_path, small.delta[:length]))
    with pytest.raises(DeltaError, match="the delta in it"):
        inspect(put(tmp_path, small.delta + b"x"))
    for _, start, _ in record_spans(small.delta):
        for byte in (start, start + 1, start + 2, len(small.delta) - 1):
            damaged = bytearray(small.delta)
            damaged[byte] ^= 0x40
            with pytest.raises(DeltaError):
                inspect(put(tmp_path, bytes(damaged)))


def test_a_record_of_an_unknown_method_is_refused(small: Example, tmp_path: Path) -> None:
    """A method that the header or this release does not name is told."""
    damaged = bytearray(small.delta)
    _, start, _ = next(span for span in record_spans(small.delta) if span[0] == 2)
    damaged[start] = 77
    with pytest.raises(DeltaError, match="method 77"):
        inspect(put(tmp_path, resealed(bytes(damaged))))


def test_records_that_run_over_the_end_are_refused(small: Example, tmp_path: Path) -> None:
    """A record whose length points past the file, or whose head is cut, is truncated."""
    _, start, _ = list(record_spans(small.delta))[-1]
    damaged = bytearray(small.delta)
    damaged[start + 1] = 0x7F
    with pytest.raises(DeltaError, match="truncated"):
        inspect(put(tmp_path, bytes(damaged)))
    for at in range(start + 1, len(damaged)):
        damaged[at] = 0xFF
    with pytest.raises(DeltaError):
        inspect(put(tmp_path, bytes(damaged)))


def test_no_such_file_is_told(tmp_path: Path) -> None:
    """NotFoundError names it."""
    with pytest.raises(NotFoundError, match="gone"):
        inspect(tmp_path / "gone")
