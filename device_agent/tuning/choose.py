"""Which settings are worth trying, and which of those measured is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from device_agent.tuning.compare import Comparison

Goal: TypeAlias = Literal["latency", "throughput", "memory"]
Loading: TypeAlias = Literal["auto", "mapped", "prepacked"]

BATCHES = (1, 2, 4, 8, 16, 32)
EFFECT = 0.03  # less than this is not worth a change, however sure
P_MAX = 0.01  # how often chance alone may be taken for better, when it is verified
# For less memory some speed may be given, unless a bound says how much.
MEMORY_LATENCY_MAX = 1.25


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Setting:
    """How a model is served: what tuning decides about."""

    threads: int
    loading: Loading
    batch_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A goal, and bounds that must hold too (0: none). ``latency_ms`` is the median of one
    request at a time, ``throughput`` answers a second of several clients."""

    goal: Goal
    latency_ms_max: float = 0.0
    throughput_min: float = 0.0
    memory_bytes_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one setting was measured to be, and how it compares with the present one in the
    same rounds. Private memory: what only this process has."""

    latency_ms: float
    p99_ms: float
    throughput: float
    memory_bytes: int
    latency: Comparison
    throughput_ratio: Comparison
    memory_ratio: float

    def gain(self, goal: Goal) -> float:
        """How the goal's figure relates to the present one's; below 1 is better."""
        if goal == "latency":
            return self.latency.ratio
        return 1 / self.throughput_ratio.ratio if goal == "throughput" else self.memory_ratio

    def is_proved(self, goal: Goal) -> bool:
        """Better by more than noise, and by enough to matter."""
        if goal == "memory":
            sure = True  # the caller measured it in several processes, and gives the worst
        else:
            p = self.latency.p_less if goal == "latency" else self.throughput_ratio.p_more
            sure = p <= P_MAX
        return sure and self.gain(goal) <= 1 - EFFECT


def first_settings(
    present: Setting, *, cores: int, loadings: Sequence[Loading]
) -> tuple[Setting, ...]:
    """Threads and ways of loading, each with each, the present one left out.

    Of many cores not every count is tried: 1 to 4, then powers of two, and all.
    """
    counts = [n for n in range(1, cores + 1) if n <= 4 or n == cores or n & (n - 1) == 0]
    return tuple(
        setting
        for threads in counts
        for loading in loadings
        if (setting := replace(present, threads=threads, loading=loading)) != present
    )


def batch_settings(best: Setting, *, clients: int, is_free: bool) -> tuple[Setting, ...]:
    """Other bounds of a batch, as far as so many clients can fill it; none where the model's
    first dimension is not free."""
    if not is_free:
        return ()
    return tuple(
        replace(best, batch_max=size)
        for size in BATCHES
        if size != best.batch_max and (size == 1 or size < 2 * clients)
    )


def breaks(wish: Wish, figures: Figures) -> str:
    """Which bound the figures break; empty: none."""
    if wish.latency_ms_max and figures.latency_ms > wish.latency_ms_max:
        return f"latency {figures.latency_ms:.3g} ms over {wish.latency_ms_max:g}"
    if wish.throughput_min and figures.throughput < wish.throughput_min:
        return f"throughput {figures.throughput:.3g}/s under {wish.throughput_min:g}"
    if wish.memory_bytes_max and figures.memory_bytes > wish.memory_bytes_max:
        return f"memory {figures.memory_bytes / 1e6:.1f} MB over {wish.memory_bytes_max / 1e6:g}"
    is_free = wish.goal != "memory" or wish.latency_ms_max
    if not is_free and figures.latency.ratio > MEMORY_LATENCY_MAX:
        return f"latency {figures.latency.ratio:.2f} times the present one's"
    return ""


def best(
    wish: Wish, measured: Sequence[tuple[Setting, Figures]], *, any_gain: bool = False
) -> Setting | None:
    """The one to verify: the best of those within the bounds, if it is worth a change.

    ``any_gain``: the present setting breaks a bound, so any that does not is worth it.
    """
    fit = [
        (figures.gain(wish.goal), setting)
        for setting, figures in measured
        if not breaks(wish, figures) and (any_gain or figures.gain(wish.goal) <= 1 - EFFECT)
    ]
    return min(fit)[1] if fit else None
