"""Statistics of pairs, against values that others published or that can be counted out."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.updater.paired import (
    _signed_rank,
    fails_more,
    log_ratios,
    longer,
    lower_bound,
    ratio,
    shorter,
    tail,
    upper_bound,
)

NUMBERS = st.floats(-5, 5).map(lambda one: round(one, 1))


def test_wilcoxons_own_example() -> None:
    """His table of 1945 for eight pairs: a sum of ranks of 3 or less has probability 0.02 on
    two sides (5 of 256 choices of signs, 0.0195 on one)."""
    differences = [-1.0, -2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert _signed_rank(differences) == pytest.approx(5 / 256)


@given(st.lists(NUMBERS, max_size=9))
def test_few_pairs_are_counted_out(differences: list[float]) -> None:
    """The exact value is the share of all choices of signs that are as extreme, ties shared."""
    kept = [one for one in differences if one]
    sizes = sorted(abs(one) for one in kept)
    rank = {
        one: sum(i + 1 for i, size in enumerate(sizes) if size == one) / sizes.count(one)
        for one in sizes
    }
    seen = sum(rank[abs(one)] for one in kept if one > 0)
    sums = [
        sum(rank[abs(one)] for one, up in zip(kept, signs, strict=True) if up)
        for signs in itertools.product((False, True), repeat=len(kept))
    ]
    assert _signed_rank(differences) == pytest.approx(sum(s >= seen for s in sums) / len(sums))


def test_the_approximation_meets_the_exact_value() -> None:
    """Where one takes over from the other, they agree, with ties as well."""
    random_ = random.Random(4)
    from device_agent.updater import paired

    for shift in (0.0, 0.3, 0.6):
        for digits in (6, 1):
            sample = [round(random_.gauss(shift, 1), digits) for _ in range(30)]
            exact = _signed_rank(sample)
            limit, paired._EXACT_MAX = paired._EXACT_MAX, 0
            try:
                assert _signed_rank(sample) == pytest.approx(exact, abs=0.01)
            finally:
                paired._EXACT_MAX = limit


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 999), st.integers(1, 999)), max_size=60))
def test_the_two_sides_are_one_question(pairs: list[tuple[int, int]]) -> None:
    """Who is exchanged for whom turns one probability into the other; both are probabilities,
    and together at least 1."""
    active, candidate = [a for a, _ in pairs], [c for _, c in pairs]
    there, back = log_ratios(active, candidate), log_ratios(candidate, active)
    assert longer(there, 1.0) == pytest.approx(shorter(back, 1.0), abs=1e-12)
    assert 0 <= longer(there, 1.5) <= 1
    assert longer(there, 1.0) + shorter(there, 1.0) >= 1 - 1e-9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(500, 5000), min_size=20, max_size=60), st.integers(0, 99))
def test_scale_and_order_do_not_matter(times: list[int], seed: int) -> None:
    """Pairs in another order, or a machine that is 8 times slower, give the same."""
    random_ = random.Random(seed)
    pairs = [(one, int(one * random_.uniform(0.8, 1.6)) or 1) for one in times]
    logs = log_ratios([a for a, _ in pairs], [c for _, c in pairs])
    random_.shuffle(pairs)
    slower = log_ratios([8 * a for a, _ in pairs], [8 * c for _, c in pairs])
    assert longer(logs, 1.1) == pytest.approx(longer(slower, 1.1), abs=1e-6)


def test_stalls_do_not_decide() -> None:
    """A tenth of the candidate's runs stalled a thousandfold, by a neighbour: not longer."""
    random_ = random.Random(7)
    active = [1000 + random_.randrange(100) for _ in range(90)]
    candidate = [1000 + random_.randrange(100) for _ in range(90)]
    for number in range(0, 90, 10):
        candidate[number] *= 1000
    logs = log_ratios(active, candidate)
    assert longer(logs, 1.5) > 0.5
    assert shorter(logs, 1.5) < 1e-2


def test_false_alarms_are_as_rare_as_said() -> None:
    """Of 2,000 comparisons at the bound itself, at most about one in a hundred says longer at
    0.01."""
    random_ = random.Random(11)
    alarms = 0
    for _ in range(2000):
        logs = [math.log(1.5) + random_.gauss(0, 0.3) for _ in range(35)]
        alarms += longer(logs, 1.5) < 0.01
    assert alarms <= 35


def test_ratio() -> None:
    """The median pair's."""
    assert ratio([]) is None
    assert ratio(log_ratios([100, 100, 100], [150, 200, 900])) == pytest.approx(2.0)


@given(st.integers(0, 30), st.integers(1, 30), st.floats(0, 1))
def test_the_tail_is_the_sum_of_its_terms(count: int, trials: int, share: float) -> None:
    """Against the plain sum."""
    plain = sum(
        math.comb(trials, k) * share**k * (1 - share) ** (trials - k)
        for k in range(count, trials + 1)
    )
    assert tail(count, trials, share) == pytest.approx(plain, abs=1e-9)


def test_published_bounds() -> None:
    """Clopper and Pearson: 95 % limits of 10 in 100 are 0.0490 and 0.1762; no event in n
    leaves 1 - 0.05 ** (1 / n) on one side."""
    assert lower_bound(10, 100, 0.025) == pytest.approx(0.0490, abs=5e-5)
    assert upper_bound(10, 100, 0.025) == pytest.approx(0.1762, abs=5e-5)
    assert upper_bound(0, 59, 0.05) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert (lower_bound(0, 9, 0.1), upper_bound(9, 9, 0.1)) == (0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(1e-6, 0.2))
def test_bounds_enclose_what_was_seen(count: int, more: int, doubt: float) -> None:
    """And come nearer with less certainty asked for."""
    trials = count + more
    if not trials:
        return
    low, high = lower_bound(count, trials, doubt), upper_bound(count, trials, doubt)
    assert low - 1e-9 <= count / trials <= high + 1e-9
    assert low <= lower_bound(count, trials, min(0.4, doubt * 2)) + 1e-9


def test_failures_are_weighed_by_how_often_each_was_asked() -> None:
    """One error in ten requests beside one in ninety is no proof; twelve are."""
    assert fails_more(1, 10, 1, 90) == pytest.approx(1 - 0.9**2)
    assert fails_more(12, 100, 1, 900) < 1e-9
    assert fails_more(0, 10, 3, 10) == 1.0
    assert fails_more(5, 50, 0, 50) == pytest.approx(1 / 32)  # the sign test
