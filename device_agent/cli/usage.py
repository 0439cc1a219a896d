"""What ``edge-agent top`` shows: two looks at the statistics, as one document. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from device_agent.statistics_page import Histogram, ModelUse, PageSnapshot, State

PRIORITIES = ("high", "medium", "low")
_STALE_MS = 3000
_NOTHING: dict[str, Any] = {"answered": 0, "hits": 0, "runs": {}, "phases": {}}


def usage(
    before: PageSnapshot, now: PageSnapshot, *, now_ms: int, interval_s: float
) -> dict[str, Any]:
    """``interval_s`` lies between the two looks: rates and what is called ``recent`` are of it.

    Times are milliseconds; None where nothing was counted.
    """
    earlier = {(one.model, one.artifact): one for one in before.models}
    shown = sorted(now.models, key=lambda one: (one.model, -one.state.value, one.version))
    return {
        "at_ms": now_ms,
        "interval_s": interval_s,
        "inference": {
            "pid": now.pid,
            "starts": now.starts,
            "up_s": max(0, now_ms - now.started_ms) / 1000 if now.starts else 0.0,
            "memory_bytes": now.memory_bytes,
            "fresh": now.starts > 0 and now_ms - now.beat_ms < _STALE_MS,
            "refused": now.refused,
            "waiting": dict(zip(PRIORITIES, now.waiting, strict=False)),
            "running": now.running,
        },
        "pool": dataclasses.asdict(now.pool),
        "models": [
            _model(one, earlier.get((one.model, one.artifact)), interval_s) for one in shown
        ],
    }


def _model(now: ModelUse, before: ModelUse | None, interval_s: float) -> dict[str, Any]:
    def rate(name: str) -> float:
        then = 0 if before is None else getattr(before, name)
        return max(0, getattr(now, name) - then) / interval_s if interval_s else 0.0

    requests = now.answered + now.hits
    return {
        "model": now.model,
        "version": now.version,
        "variant": now.variant,
        "engine": now.engine,
        "artifact": now.artifact,
        "state": now.state.name.lower(),
        "loads": now.loads,
        "load_ms": now.load_ns / 1e6,
        "memory_bytes": now.memory_bytes,
        "last_ms": now.last_ns // 1_000_000,
        "requests": requests,
        "failed": now.failed,
        "errors": now.errors,
        "refused": now.refused,
        "requests_per_s": rate("answered") + rate("hits"),
        "failed_per_s": rate("failed"),
        "refused_per_s": rate("refused"),
        "in_flight": now.in_flight,
        "waiting": now.waiting,
        "running": now.running,
        "executions": now.executions,
        "batch_sizes": {str(size): runs.count for size, runs in sorted(now.runs.items())},
        "batch_mean": now.answered / now.executions if now.executions else None,
        "cache": _cache(now) if now.cached else None,
        "phases": {name: _times(times) for name, times in now.phases.items()},
        "recent": {
            name: _times(times if before is None else times.since(before.phases[name]))
            for name, times in now.phases.items()
        },
    }


def between(before: PageSnapshot, now: PageSnapshot) -> list[dict[str, Any]]:
    """What each artifact did between two looks; those that did nothing are left out."""
    earlier = {(one.model, one.artifact): one for one in before.models}
    found = []
    for one in now.models:
        then = earlier.get((one.model, one.artifact), dataclasses.replace(one, **_NOTHING))
        answered, executions = one.answered - then.answered, one.executions - then.executions
        if answered <= 0 and one.hits <= then.hits:
            continue
        found.append(
            {
                "model": one.model,
                "version": one.version,
                "answered": answered,
                "hits": one.hits - then.hits,
                "batch_mean": answered / executions if executions > 0 else None,
                "memory_bytes": one.memory_bytes,
                "phases": {
                    name: _times(times.since(then.phases[name]) if name in then.phases else times)
                    for name, times in one.phases.items()
                },
            }
        )
    return found


def _times(times: Histogram) -> dict[str, Any]:
    percentiles = times.percentiles_ns()
    return {
        "count": times.count,
        "mean_ms": times.sum_ns / times.count / 1e6 if times.count else None,
        **{
            f"{name}_ms": None if time_ns is None else time_ns / 1e6
            for name, time_ns in percentiles.items()
        },
    }


def _cache(now: ModelUse) -> dict[str, Any]:
    """Hits of each level per request that asked it; None: none did."""
    cache = now.cache
    beyond = cache.file_hits + cache.shared + cache.misses
    asked_file = cache.file_hits + cache.misses
    asked_memory = cache.memory_hits + beyond
    return {
        **dataclasses.asdict(cache),
        "memory_hit_rate": cache.memory_hits / asked_memory if asked_memory else None,
        "file_hit_rate": cache.file_hits / asked_file if asked_file else None,
    }


def is_loaded(model: dict[str, Any]) -> bool:
    return bool(model["state"] != State.RETIRED.name.lower())
