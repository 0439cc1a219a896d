"""Estimates on histograms: frequencies, costs, and coarser symbols."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta import coder
from edge_sdk.delta.coder.estimate import (
    Cluster,
    coarser,
    code_bits,
    frequencies_of,
    merged_clusters,
    raw_bits,
    shifted,
    total,
)
from edge_sdk.delta.coder.tables import DIFFERENCE
from edge_sdk.delta.numeric import KINDS
from tests.support.code_tables import one_table

INT16 = KINDS[1]


@given(
    st.lists(st.integers(0, 1 << 20), min_size=1, max_size=200),
    st.sets(st.integers(0, 250), max_size=20),
)
def test_frequencies_always_sum_to_the_scale(counts: list[int], spare: set[int]) -> None:
    """Whatever the counts: at least 1 for all that occurs or is spare, nothing for others."""
    row = np.zeros(512)
    row[: len(counts)] = counts
    symbols, frequencies = frequencies_of(row, sorted(spare))
    assert sum(frequencies) == 4096
    assert min(frequencies) >= 1
    wanted = set(np.flatnonzero(row).tolist()) | spare
    assert set(symbols) == (wanted or {0})
    assert list(symbols) == sorted(symbols)


def differences(size: float, count: int = 20_000) -> np.ndarray:
    return np.rint(np.random.default_rng(1).normal(0, size, count)).astype("<i2").view("<u2")


def counted(shift: int, target: np.ndarray) -> np.ndarray:
    shape = one_table(INT16, DIFFERENCE, (0,), (4096,), shift=shift)
    source = np.zeros(len(target), "<u2")
    return coder.histogram(shape, source, target, None)[0].astype(np.float64)


@pytest.mark.parametrize("shift", [1, 2, 5, 9])
def test_coarser_counts_are_near_the_true_ones(shift: int) -> None:
    """What is estimated from the counts without raw bits is what a pass with them counts."""
    target = differences(700)
    estimated, true = coarser(counted(0, target), shift), counted(shift, target)
    assert estimated.sum() == pytest.approx(len(target))
    assert np.abs(estimated - true).sum() < 0.1 * len(target)


def test_shifts_follow_the_size() -> None:
    """Large differences have raw bits, small ones have none."""
    rows = [counted(0, differences(size)) for size in (0.3, 3, 700)]
    found = [shift for _, shift in shifted(rows, 16)]
    assert found[0] == 0
    assert found[1] <= 1
    assert 4 <= found[2] <= 10


def test_bits_of_a_table_are_those_of_its_stream() -> None:
    """Codes and raw bits by the table's frequencies, to a few bytes."""
    target = differences(300)
    row = counted(3, target)
    symbols, frequencies = frequencies_of(row, [])
    table = one_table(INT16, DIFFERENCE, symbols, frequencies, shift=3)
    bits = total(row[None], code_bits(table)) + total(row[None], raw_bits(table))
    stream = coder.encode(table, np.zeros(len(target), "<u2"), target, None, 1)
    assert stream is not None
    assert len(stream) == pytest.approx(bits / 8, rel=0.001, abs=10)


def cluster(cell: tuple[int, int], size: float, count: int = 4000) -> Cluster:
    return Cluster(cells=[cell], counts=counted(0, differences(size, count)), shift=0)


def test_alike_neighbours_share_a_table() -> None:
    """Two sizes in five classes become two tables; no more than there is room for remain."""
    clusters = [cluster((number, 0), 1 if number < 3 else 9) for number in range(5)]
    found = merged_clusters(clusters, DIFFERENCE, room=64)
    assert sorted(sorted(one.cells) for one in found) == [
        [(0, 0), (1, 0), (2, 0)],
        [(3, 0), (4, 0)],
    ]
    assert len(merged_clusters(clusters, DIFFERENCE, room=1)) == 1


def test_cells_apart_can_be_merged_where_room_is_short() -> None:
    """Gaps on the grid leave no island that could not be merged."""
    clusters = [cluster((0, 0), 1), cluster((3, 5), 30), cluster((9, 2), 200)]
    assert len(merged_clusters(clusters, DIFFERENCE, room=64)) == 3
    assert len(merged_clusters(clusters, DIFFERENCE, room=1)) == 1
    assert merged_clusters([], DIFFERENCE, room=1) == []
