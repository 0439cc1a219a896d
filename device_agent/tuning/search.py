"""Tries settings beside the present one, round by round, and verifies the best once more.

The best of many is partly the luckiest: what decides is a second measurement, in new
processes, of the best against the present setting alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from device_agent.tuning.choose import (
    Figures,
    Loading,
    Setting,
    Wish,
    batch_settings,
    best,
    breaks,
    first_settings,
)
from device_agent.tuning.compare import compare
from device_agent.tuning.trial import Trial, Trials
from edge_sdk.base import EdgeError

_ROUNDS = 7  # of a candidate: the fewest in which all better has a probability under 0.01
_ROUNDS_TO_LOSE = 3  # one that was half as good in each of the first is not measured further
_LOST = 1.5
_VERIFY_PROCESSES = 3
_VERIFY_ROUNDS = 5  # in each of them
_LOADINGS: tuple[Loading, ...] = ("prepacked", "mapped")
_SLICE_S = 0.25
_SLICE_RUNS = 4  # a slice holds at least that many requests one after the other

Outcome = Literal["present", "tried", "lost", "refused", "not tried"]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """``why``: of one that was refused, or breaks a bound."""

    setting: Setting
    outcome: Outcome
    figures: Figures | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``best`` None: the present setting stays, and ``why``. ``verified``: the figures of the
    second measurement, where there was one."""

    best: Setting | None
    why: str
    present: Setting
    tried: tuple[Tried, ...]
    verified: Figures | None = None
    library: str = ""


@dataclass
class _Side:
    """One setting's values, one a round."""

    latency_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    throughput: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)

    def part(self, begin: int) -> _Side:
        """The rounds of one process when it is verified."""
        end = begin + _VERIFY_ROUNDS
        return _Side(
            self.latency_ms[begin:end],
            self.p99_ms[begin:end],
            self.throughput[begin:end],
            self.memory_bytes[begin:end],
        )


class _OverError(Exception):
    """The time is over. Never leaves this module."""


class Search:
    """One model's search; ``now_s`` is a clock, so that a test can play one."""

    def __init__(
        self,
        trials: Trials,
        *,
        wish: Wish,
        clients: int,
        end_s: float,
        now_s: Callable[[], float],
        progress: Progress | None = None,
    ) -> None:
        self._trials = trials
        self._wish = wish
        self._clients = clients
        self._end_s = end_s
        self._now_s = now_s
        self._progress = progress or (lambda _text: None)
        self._slice_s = _SLICE_S
        self._library = ""
        self._round_s = 0.0  # of both sides
        self._start_s = 0.0  # what it took to start the processes of a pair

    def run(self, present: Setting, *, cores: int) -> Found:
        """Raises: what the present setting cannot be measured for."""
        tried = [self._measure_present(present)]
        loadings = [one for one in _LOADINGS if one in self._loadings] or [present.loading]
        candidates = first_settings(present, cores=cores, loadings=loadings)
        tried += self._try_all(present, candidates)
        if self._wish.goal == "throughput":
            chosen = self._best(tried) or present
            tried += self._try_all(
                present, batch_settings(chosen, clients=self._clients, is_free=self._takes_batches)
            )
        return self._decide(present, tried)

    def _measure_present(self, present: Setting) -> Tried:
        """How long a slice has to be, and the figures of what is now."""
        self._progress(f"measuring {words(present)}, the present setting")
        side = _Side()
        with self._trials.open(present) as trial:
            self._library = trial.loaded.library
            self._loadings = trial.loaded.loadings
            self._takes_batches = trial.loaded.takes_batches
            first = trial.measure(0.0, 1)
            run_s = statistics.median(first.latencies_ns) / 1e9
            self._slice_s = max(_SLICE_S, run_s * _SLICE_RUNS)
            begin_s = self._now_s()
            for _ in range(_ROUNDS_TO_LOSE):
                self._round(trial, side)
            self._round_s = 2 * (self._now_s() - begin_s) / _ROUNDS_TO_LOSE
        return Tried(setting=present, outcome="present", figures=_figures(side, side))

    def _try_all(self, present: Setting, candidates: Sequence[Setting]) -> list[Tried]:
        tried = []
        for number, setting in enumerate(candidates, 1):
            self._progress(f"trying {words(setting)} ({number} of {len(candidates)})")
            tried.append(self._try(present, setting))
        return tried

    def _try(self, present: Setting, setting: Setting) -> Tried:
        now, candidate = _Side(), _Side()
        try:
            self._check_time()
            with ExitStack() as stack:
                trials = self._open(stack, ((present, now), (setting, candidate)))
                for number in range(_ROUNDS):
                    # Who goes first changes, so that neither gains by it.
                    for trial, side in trials[:: -1 if number % 2 else 1]:
                        self._round(trial, side)
                    if number + 1 == _ROUNDS_TO_LOSE and self._is_lost(now, candidate):
                        figures = _figures(now, candidate)
                        return Tried(setting=setting, outcome="lost", figures=figures)
        except _OverError:
            return Tried(setting=setting, outcome="not tried", why="the time was over")
        except EdgeError as error:
            return Tried(setting=setting, outcome="refused", why=error.message)
        figures = _figures(now, candidate)
        return Tried(
            setting=setting, outcome="tried", figures=figures, why=breaks(self._wish, figures)
        )

    def _open(
        self, stack: ExitStack, sides: Sequence[tuple[Setting, _Side]]
    ) -> list[tuple[Trial, _Side]]:
        begin_s = self._now_s()
        trials = [(stack.enter_context(self._trials.open(one)), side) for one, side in sides]
        self._start_s = max(self._start_s, self._now_s() - begin_s)
        return trials

    def _round(self, trial: Trial, side: _Side) -> None:
        alone = trial.measure(self._slice_s, 1)
        together = trial.measure(self._slice_s, self._clients)
        latencies_ms = np.asarray(alone.latencies_ns) / 1e6
        side.latency_ms.append(float(np.median(latencies_ms)))
        side.p99_ms.append(float(np.quantile(latencies_ms, 0.99)))
        side.throughput.append(together.count / together.seconds)
        side.memory_bytes.append(max(alone.memory_bytes, 1))

    def _is_lost(self, now: _Side, candidate: _Side) -> bool:
        pairs = {
            "latency": zip(candidate.latency_ms, now.latency_ms, strict=True),
            "throughput": zip(now.throughput, candidate.throughput, strict=True),
        }.get(self._wish.goal)
        return pairs is not None and all(worse > _LOST * other for worse, other in pairs)

    def _decide(self, present: Setting, tried: list[Tried]) -> Found:
        chosen = self._best(tried)
        if chosen is None:
            late = all(one.outcome in ("present", "not tried") for one in tried)
            why = (
                "there was no time to try anything: give more minutes"
                if late
                else "nothing that was tried is better by enough to matter"
            )
            return self._found(None, why, present, tried)
        self._progress(f"verifying {words(chosen)}")
        try:
            now, candidate = self._verify(present, chosen)
        except EdgeError as error:
            return self._found(None, f"it failed: {error.message}", present, tried)
        figures = _figures(now, candidate)
        broken = breaks(self._wish, figures)
        if broken:
            why = f"{words(chosen)} was best, but when verified: {broken}"
            return self._found(None, why, present, tried, figures)
        forced = self._present_breaks(tried) and breaks(self._wish, _figures(now, now))
        if not (forced or self._is_proved(now, candidate)):
            why = f"{words(chosen)} was best, but not surely when it was verified"
            return self._found(None, why, present, tried, figures)
        return self._found(chosen, "", present, tried, figures)

    def _verify(self, present: Setting, chosen: Setting) -> tuple[_Side, _Side]:
        """In new processes: where memory happens to lie is part of the noise."""
        now, candidate = _Side(), _Side()
        for process in range(_VERIFY_PROCESSES):
            with ExitStack() as stack:
                trials = self._open(stack, ((present, now), (chosen, candidate)))
                for number in range(_VERIFY_ROUNDS):
                    for trial, side in trials[:: -1 if (number + process) % 2 else 1]:
                        self._round(trial, side)
        return now, candidate

    def _is_proved(self, now: _Side, candidate: _Side) -> bool:
        """By all rounds, and better in each pair of processes: rounds of one pair share what
        is particular to it, which the test does not know."""
        goal = self._wish.goal
        pairs = [
            _figures(now.part(begin), candidate.part(begin))
            for begin in range(0, _VERIFY_PROCESSES * _VERIFY_ROUNDS, _VERIFY_ROUNDS)
        ]
        whole = _figures(now, candidate)
        return whole.is_proved(goal) and all(one.gain(goal) < 1 for one in pairs)

    def _best(self, tried: Sequence[Tried]) -> Setting | None:
        measured = [
            (one.setting, one.figures)
            for one in tried
            if one.outcome == "tried" and one.figures is not None
        ]
        return best(self._wish, measured, any_gain=self._present_breaks(tried))

    def _present_breaks(self, tried: Sequence[Tried]) -> bool:
        figures = tried[0].figures
        return figures is not None and bool(breaks(self._wish, figures))

    def _check_time(self) -> None:
        """Raises: _OverError where a candidate would not leave enough to verify the best."""
        need_s = _ROUNDS * self._round_s + self._start_s
        need_s += _VERIFY_PROCESSES * (_VERIFY_ROUNDS * self._round_s + self._start_s)
        if self._now_s() + need_s > self._end_s:
            raise _OverError

    def _found(
        self,
        chosen: Setting | None,
        why: str,
        present: Setting,
        tried: Sequence[Tried],
        verified: Figures | None = None,
    ) -> Found:
        return Found(
            best=chosen,
            why=why,
            present=present,
            tried=tuple(tried),
            verified=verified,
            library=self._library,
        )


def words(setting: Setting) -> str:
    """A setting for people."""
    threads = f"{setting.threads} thread{'s' if setting.threads > 1 else ''}"
    return f"{threads}, {setting.loading}, batches up to {setting.batch_max}"


def _figures(now: _Side, candidate: _Side) -> Figures:
    worst = max(
        after / before
        for before, after in zip(now.memory_bytes, candidate.memory_bytes, strict=True)
    )
    return Figures(
        latency_ms=statistics.median(candidate.latency_ms),
        p99_ms=statistics.median(candidate.p99_ms),
        throughput=statistics.median(candidate.throughput),
        memory_bytes=max(candidate.memory_bytes),
        latency=compare(now.latency_ms, candidate.latency_ms),
        throughput_ratio=compare(now.throughput, candidate.throughput),
        memory_ratio=worst,
    )
