"""Collects what inference observes while a candidate serves under watch."""

from __future__ import annotations

import time

from device_agent.config import ProbationConfig
from device_agent.records import Observed, Watching
from device_agent.updater.verdict import Mirrored, Rule, Seen, Verdict, judge, ratio

_SAMPLES_MAX = 20_000  # of each side: medians need no more, and memory is bounded
_PAIRS_MAX = 4_000  # sorted at every look


class Probation:
    """One candidate's time under watch. ``comparable``: there is a version before it, and a
    golden sample to replay on both. ``mode``: who answers meanwhile (see ProbationConfig)."""

    def __init__(self, config: ProbationConfig, *, comparable: bool, mode: str = "switch") -> None:
        self.rule = Rule(
            duration_s=config.duration_s,
            deadline_s=max(config.deadline_s, config.duration_s),
            samples_min=config.samples_min,
            ratio_max=config.ratio_max,
            requests_min=config.requests_min,
            agree_min=config.agree_min,
            top1_min=config.top1_min,
        )
        self.mode = mode
        self._share = {"canary": config.share, "shadow": 0.0}.get(mode, 1.0)
        self._comparable = comparable
        self._began_s = time.monotonic()
        self._requests = 0
        self._errors = 0
        self._active_ns: list[int] = []
        self._candidate_ns: list[int] = []
        self._paired_active_ns: list[int] = []
        self._paired_candidate_ns: list[int] = []
        self._last: Observed | None = None

    def take(self, observed: Observed) -> None:
        self._requests = max(self._requests, observed.requests)
        self._errors = max(self._errors, observed.errors)
        if len(self._active_ns) < _SAMPLES_MAX:
            self._active_ns += observed.active_compute_ns
            self._candidate_ns += observed.candidate_compute_ns
        both = zip(observed.paired_active_ns, observed.paired_candidate_ns, strict=False)
        for active_ns, candidate_ns in both:
            if len(self._paired_active_ns) < _PAIRS_MAX:
                self._paired_active_ns.append(active_ns)
                self._paired_candidate_ns.append(candidate_ns)
        self._last = observed

    def seen(self) -> Seen:
        return Seen(
            requests=self._requests,
            errors=self._errors,
            active_compute_ns=tuple(self._active_ns),
            candidate_compute_ns=tuple(self._candidate_ns),
            comparable=self._comparable,
            mirrored=None if self.mode == "switch" else self._mirrored(),
        )

    def _mirrored(self) -> Mirrored:
        last = self._last
        if last is None:
            return Mirrored()
        return Mirrored(
            active_ns=tuple(self._paired_active_ns),
            candidate_ns=tuple(self._paired_candidate_ns),
            compared=last.mirrored,
            agreed=last.agreed,
            rows=last.rows,
            rows_agreed=last.rows_agreed,
            active_requests=last.before_requests,
            active_errors=last.before_errors,
        )

    def judge(self) -> tuple[Verdict, str]:
        return judge(self.rule, self.seen(), time.monotonic() - self._began_s)

    def watching(self) -> Watching:
        """How it stands, for whoever asks."""
        last = self._last
        return Watching(
            mode=self.mode,
            share=self._share,
            requests=self._requests,
            errors=self._errors,
            before_requests=last.before_requests if last else 0,
            before_errors=last.before_errors if last else 0,
            mirrored=last.mirrored if last else 0,
            agreed=last.agreed if last else 0,
            rows=last.rows if last else 0,
            rows_agreed=last.rows_agreed if last else 0,
            dropped=last.dropped if last else 0,
            ratio=ratio(self.seen()) or 0.0,
        )

    def facts(self) -> dict[str, str]:
        """The evidence, for the report."""
        seen = self.seen()
        found = {
            "requests": str(seen.requests),
            "errors": str(seen.errors),
            "replays": str(min(len(self._active_ns), len(self._candidate_ns))),
            "rss_bytes": str(self._last.rss_bytes if self._last else 0),
        }
        compared = ratio(seen)
        if compared is not None:
            found["ratio"] = f"{compared:.3f}"
        if self.mode == "switch" or self._last is None:
            return found
        return {
            **found,
            "mode": self.mode,
            "mirrored": str(self._last.mirrored),
            "agreed": str(self._last.agreed),
            "rows": str(self._last.rows),
            "rows_agreed": str(self._last.rows_agreed),
            "dropped": str(self._last.dropped),
            "difference_max": f"{self._last.difference_max:.6g}",
        }
