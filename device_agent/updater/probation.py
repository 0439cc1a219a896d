"""Collects what inference observes while a candidate serves under watch."""

from __future__ import annotations

import time

from device_agent.config import ProbationConfig
from device_agent.records import Observed
from device_agent.updater.verdict import Rule, Seen, Verdict, judge, ratio

_SAMPLES_MAX = 20_000  # of each side: medians need no more, and memory is bounded


class Probation:
    """One candidate's time under watch. ``comparable``: there is a version before it, and a
    golden sample to replay on both."""

    def __init__(self, config: ProbationConfig, *, comparable: bool) -> None:
        self.rule = Rule(
            duration_s=config.duration_s,
            deadline_s=max(config.deadline_s, config.duration_s),
            samples_min=config.samples_min,
            ratio_max=config.ratio_max,
            requests_min=config.requests_min,
        )
        self._comparable = comparable
        self._began_s = time.monotonic()
        self._requests = 0
        self._errors = 0
        self._active_ns: list[int] = []
        self._candidate_ns: list[int] = []
        self._rss_bytes = 0

    def take(self, observed: Observed) -> None:
        self._requests = max(self._requests, observed.requests)
        self._errors = max(self._errors, observed.errors)
        if len(self._active_ns) < _SAMPLES_MAX:
            self._active_ns += observed.active_compute_ns
            self._candidate_ns += observed.candidate_compute_ns
        self._rss_bytes = observed.rss_bytes

    def seen(self) -> Seen:
        return Seen(
            requests=self._requests,
            errors=self._errors,
            active_compute_ns=tuple(self._active_ns),
            candidate_compute_ns=tuple(self._candidate_ns),
            comparable=self._comparable,
        )

    def judge(self) -> tuple[Verdict, str]:
        return judge(self.rule, self.seen(), time.monotonic() - self._began_s)

    def facts(self) -> dict[str, str]:
        """The evidence, for the report."""
        seen = self.seen()
        found = {
            "requests": str(seen.requests),
            "errors": str(seen.errors),
            "replays": str(min(len(self._active_ns), len(self._candidate_ns))),
            "rss_bytes": str(self._rss_bytes),
        }
        compared = ratio(seen)
        if compared is not None:
            found["ratio"] = f"{compared:.3f}"
        return found
