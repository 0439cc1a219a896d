"""Settings of a model that a test plays: what each would be measured to be, with noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from device_agent.tuning import Setting
from device_agent.tuning.messages import Told
from device_agent.tuning.trial import Trial
from edge_sdk.base import RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a setting really is. ``refused``: it cannot be loaded."""

    latency_ms: float = 10.0
    throughput: float = 100.0
    memory_bytes: int = 10_000_000
    refused: str = ""


@dataclass
class PlayedTrials:
    """``truth`` by setting; ``noise`` is the deviation of the logarithm of each value.

    ``mood``: how much slower a process is all its life, by its number and setting.
    """

    truth: Callable[[Setting], Truth]
    noise: float = 0.01
    loadings: tuple[str, ...] = ("mapped", "prepacked")
    takes_batches: bool = True
    mood: Callable[[int, Setting], float] = lambda _number, _setting: 1.0
    seed: int = 0
    now_s: float = 0.0
    open_now: int = 0
    opened: list[Setting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def clock(self) -> float:
        return self.now_s

    @contextmanager
    def open(self, setting: Setting) -> Iterator[Trial]:
        truth = self.truth(setting)
        self.opened.append(setting)
        self.now_s += 1.0
        if truth.refused:
            raise RefusedError(truth.refused)
        self.open_now += 1
        try:
            yield PlayedTrial(self, truth, self.mood(len(self.opened) - 1, setting))
        finally:
            self.open_now -= 1

    def noisy(self, value: float) -> float:
        return float(value * np.exp(self.noise * self._random.standard_normal()))


class PlayedTrial:
    def __init__(self, trials: PlayedTrials, truth: Truth, mood: float) -> None:
        self._mood = mood
        self._trials = trials
        self._truth = truth
        self.loaded = Told(
            state="loaded",
            loadings=trials.loadings,
            library="numpy",
            takes_batches=trials.takes_batches,
            memory_bytes=truth.memory_bytes,
        )

    def measure(self, seconds: float, clients: int) -> Told:
        self._trials.now_s += seconds
        latency_ns = int(self._trials.noisy(self._truth.latency_ms * self._mood) * 1e6)
        return Told(
            state="measured",
            latencies_ns=(latency_ns,) * 5,
            count=int(1000 * self._trials.noisy(self._truth.throughput)),
            seconds=1000.0,
            memory_bytes=self._truth.memory_bytes,
        )
