"""Probation: golden inputs replayed alternately on the version before and the candidate.

Only samples are taken here; the updater decides what they mean.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from device_agent.records import Observed
from device_agent.serving import memory
from device_agent.serving.generation import Generation
from device_agent.serving.mirror import Compared, Mirror
from device_agent.serving.statistics import Served
from edge_sdk.base import EdgeError
from edge_sdk.engines.contract import Array, Binding

_ROUND_S = 0.02  # of each half second: replaying must not be what slows the requests down
_PAIRS_MAX = 10


@dataclass(kw_only=True)
class Watched:
    """A candidate on probation beside the generation that served before it (None: none did).

    ``mode``: who answers meanwhile; ``mirror``: where both run the same requests.
    """

    candidate: Generation
    before: Generation | None
    since: Served
    number: int = 0  # of the Switch that asked for it
    mode: str = "switch"
    mirror: Mirror | None = None

    def __post_init__(self) -> None:
        golden = self.candidate.identity.golden
        self._candidate = bind(self.candidate, golden)
        self._before = bind(self.before, golden) if self.before else None
        self._before_since = self.before.statistics.snapshot() if self.before else Served()

    def end(self) -> None:
        """Nothing of it holds on to either version afterwards."""
        for one in (self.candidate, self.before):
            if one is not None and one.copies is self.mirror:
                one.copies = None
        if self.mirror is not None:
            self.mirror.close()
        self._candidate = self._before = None

    def observe(self) -> Observed:
        """One round: alternating runs, and what was served since the switch."""
        active_ns: list[int] = []
        candidate_ns: list[int] = []
        sides = [(self._before, active_ns), (self._candidate, candidate_ns)]
        failures = 0
        end_s = time.monotonic() + _ROUND_S
        for pair in range(1 + _PAIRS_MAX):
            for binding, samples in sides:
                try:
                    elapsed_ns = _time_ns(binding)
                except EdgeError:
                    failures += int(samples is candidate_ns)
                    continue
                if elapsed_ns is not None and pair > 0:  # after the pause, the first are cold
                    samples.append(elapsed_ns)
            sides.reverse()  # who comes second finds the caches of who came first
            if pair > 0 and time.monotonic() >= end_s:
                break
        now = self.candidate.statistics.snapshot()
        before = self.before.statistics.snapshot() if self.before else Served()
        both = self.mirror.compared() if self.mirror else Compared()
        copies = both.runs if self.mode == "shadow" else 0  # a canary's were served as well
        pairs = self.mirror.take_times() if self.mirror else ((), ())
        return Observed(
            model=self.candidate.identity.model,
            artifact=self.candidate.identity.artifact,
            requests=now.requests - self.since.requests + copies,
            errors=now.errors - self.since.errors + both.candidate_errors + failures,
            active_compute_ns=tuple(active_ns),
            candidate_compute_ns=tuple(candidate_ns),
            rss_bytes=memory.status_bytes("VmRSS"),
            number=self.number,
            before_requests=before.requests - self._before_since.requests,
            before_errors=before.errors - self._before_since.errors + both.before_errors,
            mirrored=both.runs,
            agreed=both.agreed,
            rows=both.rows,
            rows_agreed=both.rows_agreed,
            dropped=both.dropped,
            difference_max=both.difference_max,
            paired_active_ns=pairs[0],
            paired_candidate_ns=pairs[1],
        )


def bind(generation: Generation, inputs: Mapping[str, Array]) -> Binding | None:
    """A binding of its own for replaying, warm; None where these inputs do not fit the model.

    Both sides get the same inputs in memory of their own and let the engine make the outputs,
    so that the comparison is fair.
    """
    try:
        binding = generation.session.bind({name: inputs[name].copy() for name in inputs}, {})
        binding.run()
    except EdgeError:
        return None
    return binding


def _time_ns(binding: Binding | None) -> int | None:
    if binding is None:
        return None
    begin_ns = time.perf_counter_ns()
    binding.run()
    return time.perf_counter_ns() - begin_ns
