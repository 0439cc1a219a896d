"""Statistics of pairs: the same requests on two versions. Pure.

* Times: the signed-rank test (F. Wilcoxon, Individual comparisons by ranking methods,
  Biometrics Bulletin 1, 1945) on logarithms of candidate over active. Each pair was run at the
  same moment, in alternating order, so that a stall of the machine is as likely on either side,
  and ranks keep a few of them from deciding.
* Shares: exact bounds (C. J. Clopper and E. S. Pearson, The use of confidence or fiducial
  limits illustrated in the case of the binomial, Biometrika 26, 1934).
* Failures: those of one side among those of both, given how often each was asked (J.
  Przyborowski and H. Wilenski, Homogeneity of results in testing samples from Poisson series,
  Biometrika 31, 1940); for as many runs on both sides that is the sign test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

_EXACT_MAX = 30  # pairs; beyond, the normal approximation is good to far below our limits
_SMALL = 1e-17
_HALVINGS = 60


def log_ratios(active_ns: Sequence[int], candidate_ns: Sequence[int]) -> list[float]:
    """Of each pair: above 0 where the candidate took longer."""
    pairs = zip(active_ns, candidate_ns, strict=True)
    return [math.log(max(candidate, 1) / max(active, 1)) for active, candidate in pairs]


def ratio(logs: Sequence[float]) -> float | None:
    """The median pair's candidate time over its active time; None without pairs."""
    return math.exp(median(logs)) if logs else None


def longer(logs: Sequence[float], bound: float) -> float:
    """How probable such pairs were if the candidate took at most ``bound`` times as long:
    near 0, it takes longer."""
    return _signed_rank([one - math.log(bound) for one in logs])


def shorter(logs: Sequence[float], bound: float) -> float:
    """How probable they were if it took at least ``bound`` times as long: near 0, it does not."""
    return _signed_rank([math.log(bound) - one for one in logs])


def _signed_rank(differences: Sequence[float]) -> float:
    """One-sided: near 0 where most and the larger differences are above 0. Zeros are left out;
    equal ones share their ranks."""
    ordered = sorted((abs(one), one > 0) for one in differences if one)
    ranks: list[int] = []  # doubled, so that shared ones are whole numbers
    ties = 0
    while len(ranks) < len(ordered):
        begin = len(ranks)
        same = begin + 1
        while same < len(ordered) and ordered[same][0] == ordered[begin][0]:
            same += 1
        ranks += [begin + 1 + same] * (same - begin)
        ties += (same - begin) ** 3 - (same - begin)
    above = sum(rank for rank, (_, positive) in zip(ranks, ordered, strict=True) if positive)
    if len(ranks) <= _EXACT_MAX:
        return _exact(ranks, above)
    count = len(ranks)
    variance = count * (count + 1) * (2 * count + 1) / 24 - ties / 48
    away = (above - 1) / 2 - count * (count + 1) / 4  # less half a rank: it is a whole number
    return 0.5 * math.erfc(away / math.sqrt(2 * variance))


def _exact(ranks: Sequence[int], above: int) -> float:
    """The share of all choices of signs with a sum of ranks of at least ``above``."""
    ways = [1]
    for rank in ranks:
        more = ways + [0] * rank
        for total, count in enumerate(ways):
            more[total + rank] += count
        ways = more
    return sum(ways[above:]) / (1 << len(ranks))


def tail(count: int, trials: int, share: float) -> float:
    """How probable at least ``count`` of ``trials`` are, where each is one with ``share``."""
    if count <= 0:
        return 1.0
    if share <= 0 or count > trials:
        return 0.0
    if share >= 1:
        return 1.0
    if count <= trials * share:  # the short way to a sum of small terms
        return 1.0 - tail(trials - count + 1, trials, 1 - share)
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(share)
        + (trials - count) * math.log1p(-share)
    )
    whole = 0.0
    for number in range(count, trials + 1):
        whole += term
        if term < whole * _SMALL:
            break
        term *= (trials - number) / (number + 1) * share / (1 - share)
    return min(1.0, whole)


def lower_bound(count: int, trials: int, doubt: float) -> float:
    """A share that the true one is below with a probability of at most ``doubt``."""
    if not count:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if tail(count, trials, middle) < doubt:
            low = middle
        else:
            high = middle
    return low


def upper_bound(count: int, trials: int, doubt: float) -> float:
    """A share that the true one is above with a probability of at most ``doubt``."""
    return 1.0 - lower_bound(trials - count, trials, doubt)


def fails_more(errors: int, requests: int, active_errors: int, active_requests: int) -> float:
    """How probable that many errors on the candidate were if it failed no more often than the
    active version; near 0: it does."""
    share = requests / max(requests + active_requests, 1)
    return tail(errors, errors + active_errors, share)
