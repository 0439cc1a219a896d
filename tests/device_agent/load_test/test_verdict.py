"""Goals held against figures."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.load_test.loads import Goal
from device_agent.load_test.measured import OK, RIGHT_SCALE, Samples, Summary, summarise
from device_agent.load_test.verdict import Verdict, all_met, judge

MS = 1_000_000


def summary(answered: int, *, failed: int = 0, took_ms: int = 4, right: float = -1) -> Summary:
    label = round(right * RIGHT_SCALE) if right >= 0 else -1
    rows = [(0, 0, took_ms * MS, OK, label)] * answered + [(0, 0, MS, 1, -1)] * failed
    return summarise(
        Samples(
            rows=np.array(rows, np.int64).reshape(-1, 5),
            kinds=("UnavailableError",),
            begin_ns=0,
            end_ns=1000 * MS,
        )
    )


@pytest.mark.parametrize(
    ("what", "bound", "met"),
    [
        ("p99-ms", 4, True),
        ("p99-ms", 3.9, False),
        ("throughput", 200, True),
        ("throughput", 201, False),
        ("failures", 0, True),
        ("accuracy", 0.75, True),
        ("accuracy", 0.8, False),
    ],
)
def test_each_goal_has_its_direction(what: str, bound: float, met: bool) -> None:
    """Latency and failures are at most, throughput and accuracy at least, the bound."""
    assert judge(Goal(what=what, bound=bound), summary(200, right=0.75)).met is met


def test_refused_requests_miss_a_goal_of_latency() -> None:
    """With 2 % of requests refused, no p99 is met, however fast the others were."""
    verdict = judge(Goal(what="p99-ms", bound=1000), summary(196, failed=4))
    assert (verdict.met, verdict.measured) == (False, None)
    assert "2.00%" in verdict.why
    assert judge(Goal(what="p90-ms", bound=1000), summary(196, failed=4)).met is True


@pytest.mark.parametrize(("what", "needed"), [("p99-ms", 101), ("p999-ms", 1001), ("p50-ms", 3)])
def test_too_few_requests_prove_nothing(what: str, needed: int) -> None:
    """Where a percentile is the largest value seen, a good one is not taken for met."""
    assert judge(Goal(what=what, bound=10), summary(needed)).met is True
    few = judge(Goal(what=what, bound=10), summary(needed // 2))
    assert (few.met, few.measured) == (None, 4)
    assert judge(Goal(what=what, bound=1), summary(needed // 2)).met is False


def test_silence_meets_no_goal() -> None:
    """Without a request, or without labels, nothing is met, and all together is not."""
    nothing = [judge(Goal(what=what, bound=1), summary(0)) for what in ("p50-ms", "throughput")]
    assert [one.met for one in nothing] == [None, None]
    assert judge(Goal(what="accuracy", bound=0), summary(10)).met is None
    met = Verdict(goal=Goal(what="p50-ms", bound=1), met=True, measured=0.5)
    assert all_met([met])
    assert not all_met([met, *nothing])
