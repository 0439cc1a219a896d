"""Levels: groups of elements that are alike have the same."""

import numpy as np

from edge_sdk.delta.coder.fit import Fitter
from edge_sdk.delta.coder.leveling import ByCode, ByMean, BySize, Joined
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


def spread(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups of one mean whose numbers lie near to it or far from it, and which they are."""
    which = random.integers(0, 2, count)
    sizes = np.repeat(np.array([4, 40])[which], 256)
    return which, np.clip(random.normal(128, sizes), 0, 255).astype(np.uint8)


def test_codes_tell_groups_apart_that_means_do_not() -> None:
    """The level of a group is that of the code in which it is shortest."""
    which, target = spread(np.random.default_rng(8), 200)
    first = ByMean.of(INT8, target).levels(None, target)
    levels = ByCode.of(INT8, target, first).levels(None, target)
    near, far = (set(levels[which == number].tolist()) for number in range(2))
    assert not near & far


def test_levels_of_one_table_are_joined() -> None:
    """Two kinds of groups need two levels, not as many as there may be."""
    _, target = spread(np.random.default_rng(9), 200)
    found = Fitter(kind=INT8, source=None, target=target, lasting=False).fit(ALONE)
    assert found is not None
    assert (found.table.levels, len(found.table.tables)) == (2, 2)


def test_joined_levels_hold_for_other_elements() -> None:
    """Levels that were not seen when they were joined are like the last that was."""
    means = ByMean(kind=INT8, cuts=np.array([50.0, 100.0, 150.0]))
    joined = Joined(leveling=means, numbers=np.array([0, 1, 0], np.uint8))
    target = np.repeat(np.array([20, 70, 120, 220], np.uint8), 256)
    assert joined.levels(None, target).tolist() == [0, 1, 0, 0]
