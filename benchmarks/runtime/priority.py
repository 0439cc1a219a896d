"""A few requests of high priority while others of low priority keep the engine busy.

The model takes 5 ms, and a batch is one run: the most that a request may have to wait for.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import clients, figures, models, served
from benchmarks.runtime.clients import Client, Log
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target
from device_agent.config import ModelConfig

_MODEL = "bench/priority"
_RUN_MS = 5.0
_RATE = 25.0
_FOR_S = 4.0
_BOTH_S = 1.5
_CLIENTS = 4


def measure(folder: Path, *, rounds: int) -> list[Row]:
    path = models.lasting(folder / "model", _RUN_MS)
    artifact = Artifact(model=_MODEL, path=path)
    config = {_MODEL: ModelConfig(priority=3)}
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        server = enter(served.serve(folder / "ours", [artifact], models=config))
        shape = models.SLOW_SHAPE
        ways = {
            "low": clients.way("lane", server.address, _MODEL, shape),
            "high": clients.way("stock", server.address, _MODEL, shape, priority=1),
        }
        few = enter(clients.client(ways))
        crowd = enter(clients.crowd(_CLIENTS, ways))
        more = enter(clients.crowd(_CLIENTS, ways))
        batch_ms = [_run_ms(few) for _ in range(rounds)]
        alone, beside, kept, share = [], [], [], []
        for _ in range(rounds):
            few.begin("high", for_s=_FOR_S, rate=_RATE)
            alone.append(few.log())
            low, high = _beside(few, crowd)
            beside.append(high)
            kept.append(clients.answered(low) / _FOR_S)
            share.append(_share(crowd, more))
    return _rows(batch_ms, alone, beside, kept, share)


def _run_ms(few: Client) -> float:
    """One run by the lane, alone."""
    few.begin("low", for_s=0.3)
    return figures.percentile(few.log().latencies_ms, 50)


def _beside(few: Client, crowd: list[Client]) -> tuple[list[Log], Log]:
    at_s = time.monotonic() + 0.05
    for one in crowd:
        one.begin("low", for_s=_FOR_S + 0.2, at_s=at_s)
    few.begin("high", for_s=_FOR_S, rate=_RATE, at_s=at_s + 0.1)
    high = few.log()
    return [one.log() for one in crowd], high


def _share(crowd: list[Client], more: list[Client]) -> float:
    """Percent of the answers that low priority gets while high asks without pause as well."""
    at_s = time.monotonic() + 0.05
    for low, high in zip(crowd, more, strict=True):
        low.begin("low", for_s=_BOTH_S, at_s=at_s)
        high.begin("high", for_s=_BOTH_S, at_s=at_s)
    lows, highs = (clients.answered([one.log() for one in all_]) for all_ in (crowd, more))
    return 100 * lows / (lows + highs)


def _rows(
    batch_ms: list[float],
    alone: list[Log],
    beside: list[Log],
    kept: list[float],
    share: list[float],
) -> list[Row]:
    p99, unloaded = (
        figures.percentiles([log.latencies_ms for log in logs], 99) for logs in (beside, alone)
    )
    excess = [
        loaded - quiet - batch for loaded, quiet, batch in zip(p99, unloaded, batch_ms, strict=True)
    ]
    return [
        target("runtime.priority.high-p99").row(excess, anchor("unloaded p99, ms", "", unloaded)),
        target("runtime.priority.low-share").row(share),
        row("runtime.priority.high-p99-loaded", "its p99 beside low", p99, "ms", "<="),
        row("runtime.priority.batch", "one run", batch_ms, "ms", "<="),
        row(
            "runtime.priority.low-rate",
            "low priority's answers beside a few of high priority",
            kept,
            "requests/s",
            ">=",
        ),
    ]
