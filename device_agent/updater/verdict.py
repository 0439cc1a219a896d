"""Whether a candidate is worse than what it replaces, on this device. Pure.

Speed is judged by golden inputs that inference replays alternately on both loaded versions:
medians of the engine's compute phase over the same minutes, so heat and neighbours weigh on
both. Times of served requests are not used: they change with the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median


class Verdict(Enum):
    """WAIT: look again later. UNPROVED: nothing against it, but nobody asked it anything."""

    WAIT = "wait"
    PROVED = "proved"
    UNPROVED = "unproved"
    WORSE = "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``ratio_max``: candidate's median over the active one's; samples count for each side."""

    duration_s: float
    deadline_s: float
    samples_min: int
    ratio_max: float
    requests_min: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was observed since the switch. ``comparable``: both versions are loaded and have
    a golden sample to replay."""

    requests: int
    errors: int
    active_compute_ns: tuple[int, ...]
    candidate_compute_ns: tuple[int, ...]
    comparable: bool


def ratio(seen: Seen) -> float | None:
    """Candidate's median compute time over the active version's; None without samples."""
    if not seen.active_compute_ns or not seen.candidate_compute_ns:
        return None
    return median(seen.candidate_compute_ns) / max(median(seen.active_compute_ns), 1)


def is_clear(rule: Rule, seen: Seen) -> bool:
    """Even the faster candidate runs take too long against the slower ones of the active
    version. On a busy machine the medians of a second's samples were seen 1.66 apart for
    models that differ in nothing; such a candidate is watched longer, not blocked for good.
    """
    candidate = sorted(seen.candidate_compute_ns)
    active = sorted(seen.active_compute_ns)
    lower, upper = candidate[len(candidate) // 4], active[len(active) * 3 // 4]
    return lower > rule.ratio_max * upper


def judge(rule: Rule, seen: Seen, elapsed_s: float) -> tuple[Verdict, str]:
    """The verdict and, where it is WORSE or UNPROVED, the sentence that says why."""
    if seen.errors:
        return Verdict.WORSE, f"{seen.errors} of {seen.requests} requests failed on the candidate"
    samples = min(len(seen.active_compute_ns), len(seen.candidate_compute_ns))
    compared = ratio(seen) if samples >= rule.samples_min else None
    slower = compared is not None and compared > rule.ratio_max
    overdue = elapsed_s >= rule.deadline_s
    if slower and (overdue or is_clear(rule, seen)):
        return Verdict.WORSE, (
            f"golden inputs take {compared:.2f} times as long as on the version before "
            f"(at most {rule.ratio_max:.2f}; medians of {samples} replays each)"
        )
    unsure = slower or (seen.comparable and compared is None)
    if elapsed_s < rule.duration_s or (unsure and not overdue):
        return Verdict.WAIT, ""
    if seen.requests < rule.requests_min:
        return Verdict.UNPROVED, f"served {seen.requests} requests; that proves nothing"
    if seen.comparable and compared is None:
        return Verdict.UNPROVED, f"only {samples} golden replays in {elapsed_s:.0f} s"
    return Verdict.PROVED, ""
