"""Whether goals are met. One that cannot be judged is not met: silence is no proof."""

from __future__ import annotations

from dataclasses import dataclass

from device_agent.load_test.loads import AT_LEAST, Goal
from device_agent.load_test.measured import QUANTILES, Summary, rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``met`` None: there was too little to tell. ``measured`` None: worse than any number, or
    nothing; ``why`` says which."""

    goal: Goal
    met: bool | None
    measured: float | None
    why: str = ""


def judge(goal: Goal, summary: Summary) -> Verdict:
    """Holds one goal against what was measured."""
    if not summary.asked:
        return Verdict(goal=goal, met=None, measured=None, why="no request was due in the time")
    if goal.what.endswith("-ms"):
        return _latency(goal, goal.what.removesuffix("-ms"), summary)
    measured = {
        "throughput": summary.throughput,
        "failures": summary.failures,
        "accuracy": summary.accuracy,
    }[goal.what]
    if measured is None:
        return Verdict(goal=goal, met=None, measured=None, why="no answer had a label")
    met = measured >= goal.bound if goal.what in AT_LEAST else measured <= goal.bound
    return Verdict(goal=goal, met=met, measured=measured)


def _latency(goal: Goal, name: str, summary: Summary) -> Verdict:
    measured = getattr(summary.judged, name)
    if measured is None:
        share = summary.failures or 0.0
        why = f"{share:.2%} of the requests had no answer"
        return Verdict(goal=goal, met=False, measured=None, why=why)
    # Where the quantile is the largest value, one more request could be anywhere beyond it.
    if rank(QUANTILES[name], summary.asked) >= summary.asked - 1 and measured <= goal.bound:
        why = f"{summary.asked} requests are too few to know {name}"
        return Verdict(goal=goal, met=None, measured=measured, why=why)
    return Verdict(goal=goal, met=measured <= goal.bound, measured=measured)


def all_met(verdicts: list[Verdict]) -> bool:
    return all(one.met is True for one in verdicts)
