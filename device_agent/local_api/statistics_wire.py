"""The statistics page's values as messages of AgentService, and back."""

from __future__ import annotations

import dataclasses

from device_agent.statistics_page import Histogram, ModelUse, PageSnapshot, PoolUse, State
from device_agent.statistics_page.layout import BUCKETS
from device_agent.statistics_page.snapshot import CacheCounts, Runs
from edge_sdk.base import FormatError
from edge_sdk.protos import agent_v1_pb2 as wire

_SAME = (
    *("model", "version", "variant", "engine", "loads", "memory_bytes", "load_ns", "loaded_ms"),
    *("last_ns", "answered", "failed", "errors", "refused", "hits", "in_flight"),
    *("waiting", "running"),
    *("failed_ns", "hits_ns", "misses", "misses_ns"),
)
_WORD_MAX = (1 << 64) - 1
_OF_PROCESS = ("starts", "pid", "started_ms", "beat_ms", "refused", "memory_bytes", "running")


def to_message(page: PageSnapshot, *, now_ms: int) -> wire.StatisticsResponse:
    return wire.StatisticsResponse(
        **{name: getattr(page, name) for name in _OF_PROCESS},
        waiting=page.waiting,
        pool=wire.PoolUse(**dataclasses.asdict(page.pool)),
        models=[_model_message(model) for model in page.models],
        now_ms=now_ms,
    )


def _model_message(model: ModelUse) -> wire.ModelUse:
    return wire.ModelUse(
        **{name: getattr(model, name) for name in _SAME},
        artifact=bytes.fromhex(model.artifact),
        state=model.state.name.lower(),
        cache=wire.ResponseCache(**dataclasses.asdict(model.cache)) if model.cached else None,
        runs=[
            wire.RunsOfSize(
                batch_size=size,
                count=runs.count,
                input_ns=runs.input_ns,
                compute_ns=runs.compute_ns,
                output_ns=runs.output_ns,
            )
            for size, runs in model.runs.items()
        ],
        phases=[_phase_message(name, times) for name, times in model.phases.items()],
    )


def _phase_message(name: str, times: Histogram) -> wire.PhaseTimes:
    percentiles = {f"{which}_ns": round(ns or 0) for which, ns in times.percentiles_ns().items()}
    counts = list(times.counts)
    while counts and not counts[-1]:
        counts.pop()
    return wire.PhaseTimes(
        phase=name,
        count=times.count & _WORD_MAX,
        sum_ns=times.sum_ns,
        buckets=counts,
        **percentiles,
    )


def from_message(message: wire.StatisticsResponse) -> PageSnapshot:
    """Raises: FormatError."""
    return PageSnapshot(
        **{name: getattr(message, name) for name in _OF_PROCESS},
        waiting=tuple(message.waiting),
        pool=PoolUse(
            **{one.name: getattr(message.pool, one.name) for one in dataclasses.fields(PoolUse)}
        ),
        models=tuple(_model(model) for model in message.models),
    )


def _model(model: wire.ModelUse) -> ModelUse:
    try:
        state = State[model.state.upper()]
    except KeyError:
        raise FormatError(f"the agent says that a model is {model.state!r}") from None
    return ModelUse(
        **{name: getattr(model, name) for name in _SAME},
        artifact=model.artifact.hex(),
        state=state,
        cache=CacheCounts(
            **{one.name: getattr(model.cache, one.name) for one in dataclasses.fields(CacheCounts)}
        ),
        runs={
            one.batch_size: Runs(one.count, one.input_ns, one.compute_ns, one.output_ns)
            for one in model.runs
        },
        phases={one.phase: _histogram(one) for one in model.phases},
    )


def _histogram(phase: wire.PhaseTimes) -> Histogram:
    if len(phase.buckets) > BUCKETS:
        raise FormatError(f"phase {phase.phase!r} has {len(phase.buckets)} buckets")
    padded = (*phase.buckets, *[0] * (BUCKETS - len(phase.buckets)))
    return Histogram(counts=padded, sum_ns=phase.sum_ns)
