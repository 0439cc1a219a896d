"""Levels: groups of elements that are alike have the same."""

import numpy as np

from edge_sdk.delta.coder.leveling import ByMean, BySize
from edge_sdk.delta.coder.policy import Policy
from edge_sdk.delta.coder.tables import ALONE
from edge_sdk.delta.numeric import KINDS
from tests.support.deltas import weights

INT8, FLOAT32 = KINDS[0], KINDS[6]


def test_means_that_are_alike_share_a_level() -> None:
    """Groups of few distinct means have as many levels, in the order of the means."""
    random = np.random.default_rng(6)
    which = random.integers(0, 3, 200)
    target = random.normal(np.repeat(np.array([60, 128, 200])[which], 256), 5).astype(np.uint8)
    levels = ByMean.of(INT8, target).levels(None, target)
    assert len({(int(one), int(level)) for one, level in zip(which, levels, strict=True)}) <= 8
    by_mean = [{int(one) for one in levels[which == number]} for number in range(3)]
    assert max(by_mean[0]) < min(by_mean[1])
    assert max(by_mean[1]) < min(by_mean[2])


def test_other_elements_have_levels_by_the_same_means() -> None:
    """Whatever else stands beside them, the last group shorter than the others."""
    target = weights("float32", 256 * 40 + 100, 3)
    leveling = ByMean.of(FLOAT32, target)
    found = leveling.levels(None, target)
    assert len(found) == 41
    assert np.array_equal(leveling.levels(None, target[256 * 30 :]), found[30:])
    assert np.array_equal(leveling.levels(target, target), found)


def test_sizes_need_a_source() -> None:
    """What has none has one level."""
    leveling = BySize(kind=INT8, inverse_means=np.ones(256, np.uint32))
    assert leveling.levels(None, np.zeros(600, np.uint8)).tolist() == [0, 0, 0]


def test_numbers_alone_have_levels_where_they_pay() -> None:
    """Rows of other sizes; not where all rows are alike."""
    random = np.random.default_rng(7)
    even = random.normal(0, 0.05, 256 * 300).astype("<f4")
    uneven = even * np.repeat(np.exp2(random.integers(0, 6, 300)), 256).astype("<f4")
    found = [Policy().choose(FLOAT32, None, one.view("<u4")) for one in (even, uneven)]
    assert [one is not None and one.table.model for one in found] == [ALONE, ALONE]
    assert [one is not None and one.table.levels > 1 for one in found] == [False, True]
