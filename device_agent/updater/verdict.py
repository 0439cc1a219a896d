"""Whether a candidate is worse than what it replaces, on this device. Pure.

Speed is judged by golden inputs that inference replays alternately on both loaded versions:
medians of the engine's compute phase over the same minutes, so heat and neighbours weigh on
both. Times of served requests are not used: they change with the traffic.

In a canary or shadow the same requests ran on both, and ``paired.py`` says how sure one can be.
A probation looks again and again, so each look may be wrong with a small part of ``DOUBT``
only (C. E. Bonferroni's inequality): whatever it ends with is wrong with at most ``DOUBT``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from device_agent.updater import paired

DOUBT = 0.01
_LOOKS_PER_S = 4  # half-second ticks, and half-second messages
_PAIRS_ENOUGH = 20  # of requests, to be preferred to golden inputs


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
    agree_min: float = 0.0
    top1_min: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """The same requests on both versions: times as pairs; ``agreed`` of ``compared`` gave the
    same, ``rows_agreed`` of ``rows`` chose the same. ``active_…``: of the version before."""

    active_ns: tuple[int, ...] = ()
    candidate_ns: tuple[int, ...] = ()
    compared: int = 0
    agreed: int = 0
    rows: int = 0
    rows_agreed: int = 0
    active_requests: int = 0
    active_errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was observed since the switch. ``comparable``: both versions are loaded and have
    a golden sample to replay. ``mirrored`` None: no canary, no shadow."""

    requests: int
    errors: int
    active_compute_ns: tuple[int, ...]
    candidate_compute_ns: tuple[int, ...]
    comparable: bool
    mirrored: Mirrored | None = field(default=None)


def ratio(seen: Seen) -> float | None:
    """Candidate's median compute time over the active version's; None without samples."""
    if seen.mirrored is not None:
        return paired.ratio(pairs(seen, seen.mirrored))
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
    if seen.mirrored is not None:
        return _judge_mirrored(rule, seen, seen.mirrored, elapsed_s)
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


def doubt(rule: Rule) -> float:
    """How often one look may be wrong."""
    return DOUBT / max(1.0, _LOOKS_PER_S * rule.deadline_s)


def pairs(seen: Seen, mirrored: Mirrored) -> list[float]:
    """Logarithms of ratios: of the requests, or while these are few, of the golden inputs."""
    if len(mirrored.active_ns) >= min(_PAIRS_ENOUGH, len(seen.active_compute_ns)):
        return paired.log_ratios(mirrored.active_ns, mirrored.candidate_ns)
    both = min(len(seen.active_compute_ns), len(seen.candidate_compute_ns))
    return paired.log_ratios(seen.active_compute_ns[:both], seen.candidate_compute_ns[:both])


def _judge_mirrored(
    rule: Rule, seen: Seen, mirrored: Mirrored, elapsed_s: float
) -> tuple[Verdict, str]:
    """Each question is answered good, bad, or not yet; one bad answer is enough."""
    bad, open_questions = [], []
    for answer, why in (
        _failures(rule, seen, mirrored),
        _speed(rule, seen, mirrored),
        _shares(rule, mirrored.agreed, mirrored.compared, rule.agree_min, "answers"),
        _shares(rule, mirrored.rows_agreed, mirrored.rows, rule.top1_min, "first choices"),
    ):
        if answer is Verdict.WORSE:
            bad.append(why)
        elif answer is Verdict.WAIT:
            open_questions.append(why)
    if bad:
        return Verdict.WORSE, bad[0]
    if seen.requests < rule.requests_min:
        open_questions.insert(0, f"{seen.requests} requests reached it; that proves nothing")
    overdue = elapsed_s >= rule.deadline_s
    if elapsed_s < rule.duration_s or (open_questions and not overdue and seen.requests):
        return Verdict.WAIT, ""
    return (Verdict.UNPROVED, open_questions[0]) if open_questions else (Verdict.PROVED, "")


def _failures(rule: Rule, seen: Seen, mirrored: Mirrored) -> tuple[Verdict, str]:
    """An error where the version before has none is enough; else as many as chance allows."""
    if not seen.errors:
        return Verdict.PROVED, ""
    chance = paired.fails_more(
        seen.errors, seen.requests, mirrored.active_errors, mirrored.active_requests
    )
    if mirrored.active_errors and chance >= doubt(rule):
        return Verdict.PROVED, ""
    return Verdict.WORSE, (
        f"{seen.errors} of {seen.requests} requests failed on the candidate, "
        f"{mirrored.active_errors} of {mirrored.active_requests} on the version before"
    )


def _speed(rule: Rule, seen: Seen, mirrored: Mirrored) -> tuple[Verdict, str]:
    logs = pairs(seen, mirrored)
    if len(logs) < rule.samples_min:
        return Verdict.WAIT, f"only {len(logs)} runs on both versions to compare"
    times = (
        f"{paired.ratio(logs):.2f} times as long as on the version before (at most "
        f"{rule.ratio_max:.2f}; {len(logs)} pairs)"
    )
    if paired.longer(logs, rule.ratio_max) < doubt(rule):
        return Verdict.WORSE, f"the same requests take {times}"
    if paired.shorter(logs, rule.ratio_max) < doubt(rule):
        return Verdict.PROVED, ""
    return Verdict.WAIT, f"whether requests take too long is not sure: {times}"


def _shares(rule: Rule, count: int, trials: int, least: float, what: str) -> tuple[Verdict, str]:
    if not least:
        return Verdict.PROVED, ""
    said = f"{count} of {trials} {what} are those of the version before (at least {least:.3f})"
    if trials and paired.upper_bound(count, trials, doubt(rule)) < least:
        return Verdict.WORSE, said
    if trials and paired.lower_bound(count, trials, doubt(rule)) >= least:
        return Verdict.PROVED, ""
    return Verdict.WAIT, f"not sure yet: {said}"
