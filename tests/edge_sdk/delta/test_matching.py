"""Content matching: what the source holds is found wherever it stands."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta.files import open_tree
from edge_sdk.delta.matching import Match, SourceIndex, equal_runs
from tests.support.deltas import write_folder

CHANCE = random.Random(11)
BLOCK = SourceIndex.BLOCK_BYTES_MIN


def noise(count: int) -> bytes:
    return CHANCE.randbytes(count)


def matches(tmp_path: Path, sources: list[bytes], region: bytes) -> list[Match]:
    write_folder(tmp_path, {f"s{number}": data for number, data in enumerate(sources)})
    with open_tree(tmp_path) as files:
        found = list(SourceIndex(files).matches(region))
    done = 0
    for match in found:
        assert done <= match.start < match.end <= len(region)
        source = sources[match.source_file]
        assert (
            source[match.source_start :][: match.end - match.start]
            == region[match.start : match.end]
        )
        done = match.end
    return found


@pytest.mark.parametrize("shift", [0, 1, 7, 255, 4001])
def test_moved_content_is_found_whole(tmp_path: Path, shift: int) -> None:
    """A run of twice the block size is found at any byte offset, from its first byte on."""
    moved = noise(2 * BLOCK + 100)
    source = noise(3000 + shift) + moved + noise(2000)
    region = noise(777) + moved + noise(1234)
    (match,) = matches(tmp_path, [source], region)
    assert (match.start, match.end) == (777, 777 + len(moved))


def test_matches_come_from_any_source_file(tmp_path: Path) -> None:
    """Two files are exchanged halves: each half is found in the other's place."""
    first, second = noise(5000), noise(6000)
    found = matches(tmp_path, [b"", first, second], second + first)
    assert [(match.source_file, match.source_start) for match in found] == [(2, 0), (1, 0)]


def test_long_regions_are_scanned_in_pieces(tmp_path: Path) -> None:
    """What lies across the border of two scans is found, and joined as one match."""
    source = noise(600_000)
    (match,) = matches(tmp_path, [source], noise(100) + source[1000:500_000])
    assert (match.start, match.end, match.source_start) == (100, 499_100, 1000)


def test_foreign_content_has_no_match(tmp_path: Path) -> None:
    """Noise, content shorter than a block, and an empty source match nothing."""
    source = noise(10_000)
    assert matches(tmp_path, [source], noise(50_000)) == []
    assert matches(tmp_path, [source], source[: BLOCK - 1]) == []
    assert matches(tmp_path / "empty", [b""], source) == []


def test_constant_content_is_left_to_compression(tmp_path: Path) -> None:
    """Zeros, which stand everywhere, are no anchor; what follows them still is."""
    content = noise(1000)
    found = matches(tmp_path, [bytes(100_000) + content], bytes(50_000) + content)
    assert found[-1].end == 51_000
    assert sum(match.end - match.start for match in found) <= 51_000


def test_deceiving_content_is_given_up(tmp_path: Path) -> None:
    """Blocks that agree in the words looked at and differ elsewhere cost bounded time."""
    block = bytearray(noise(BLOCK))
    source = b"".join(bytes(block) for _ in range(4))
    block[50] ^= 1
    assert matches(tmp_path, [source], bytes(block) * 1000) == []


@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(1, 9))
def test_equal_runs_are_all_that_are_long_enough(target: bytes, source: bytes, least: int) -> None:
    """Exactly the maximal ranges of agreement with the least length, in order."""
    length = min(len(target), len(source))
    same = np.array([target[i] == source[i] for i in range(length)], bool)
    expected, start = [], None
    for i in range(length + 1):
        if i < length and same[i]:
            start = i if start is None else start
        elif start is not None:
            if i - start >= least:
                expected.append((start, i))
            start = None
    assert list(equal_runs(target, source, least)) == expected
