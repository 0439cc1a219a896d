"""The statistics page as Prometheus metrics, read anew for each scrape.

Names follow the conventions of Prometheus (base units, ``_total``); docs/observability.md says
which of Triton's ``nv_inference_*`` each stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from device_agent.statistics_page import Histogram, ModelUse, PageSnapshot, State, read_page
from device_agent.statistics_page.layout import BATCH_SIZES

_LABELS = ("model", "version", "artifact")
_PRIORITIES = ("high", "medium", "low")
# 4 µs to 17 s, at powers of two: there a bucket of the page ends, so counts are exact (but for
# a time of just the bound, which counts in the next).
_BOUNDS_NS = tuple(1 << power for power in range(12, 35))
_BATCHES = (1, 2, 4, 8, 16, 32, BATCH_SIZES - 1)


class PageCollector(Collector):
    """Of one page; nothing is kept between two scrapes."""

    def __init__(self, page: memoryview) -> None:
        self._page = page

    def collect(self) -> Iterator[Metric]:
        now = read_page(self._page)
        yield from _process(now)
        yield from _counters(now.models)
        yield from _durations(now.models)
        yield from _batches(now.models)
        yield from _gauges([one for one in now.models if one.state is not State.RETIRED])
        yield from _caches([one for one in now.models if one.cached])


def _of(model: ModelUse) -> tuple[str, str, str]:
    return model.model, model.version, model.artifact[:12]


def _process(now: PageSnapshot) -> Iterator[Metric]:
    pool = now.pool
    for name, documentation, value in (
        ("edge_inference_start_time_seconds", "When it started, since 1970.", now.started_ms / 1e3),
        ("edge_inference_gauges_time_seconds", "When gauges were set last.", now.beat_ms / 1e3),
        ("edge_inference_memory_bytes", "Private memory of the process.", now.memory_bytes),
        ("edge_inference_running", "Runs of engines now.", now.running),
        ("edge_tensor_pool_budget_bytes", "What tensors may use.", pool.budget_bytes),
        ("edge_tensor_pool_held_bytes", "Taken from the system.", pool.held_bytes),
        ("edge_tensor_pool_used_bytes", "In tensors now.", pool.used_bytes),
        ("edge_tensor_pool_used_max_bytes", "The most ever used.", pool.used_high_water_bytes),
        ("edge_tensor_pool_slabs", "Pieces in use now.", pool.slabs_used),
    ):
        yield GaugeMetricFamily(name, documentation, value)
    waiting = GaugeMetricFamily(
        "edge_inference_waiting", "Requests that wait for a turn.", labels=["priority"]
    )
    for priority, count in zip(_PRIORITIES, now.waiting, strict=False):
        waiting.add_metric([priority], count)
    yield waiting
    for name, documentation, value in (
        ("edge_inference_starts", "Starts of the inference process.", now.starts),
        ("edge_inference_uncounted_models", "Artifacts without room on the page.", now.refused),
        ("edge_tensor_pool_acquired", "Pieces given out.", pool.acquired),
        ("edge_tensor_pool_reused", "Of these, of memory held already.", pool.reused),
        ("edge_tensor_pool_refused", "Refused by the budget.", pool.refused),
    ):
        yield CounterMetricFamily(name, documentation, value)


def _counters(models: Iterable[ModelUse]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "edge_inference_requests",
        "Requests by outcome: run, answered by the cache or another's run, refused, failed.",
        labels=[*_LABELS, "outcome"],
    )
    errors = CounterMetricFamily(
        "edge_inference_engine_errors", "Failed requests by the engine's fault.", labels=_LABELS
    )
    loads = CounterMetricFamily("edge_model_loads", "How often it was loaded.", labels=_LABELS)
    for one in models:
        for outcome, count in (
            ("run", one.answered),
            ("cached", one.hits),
            ("refused", one.refused),
            ("failed", one.failed - one.refused),
        ):
            requests.add_metric([*_of(one), outcome], count)
        errors.add_metric(_of(one), one.errors)
        loads.add_metric(_of(one), one.loads)
    yield from (requests, errors, loads)


def _durations(models: Iterable[ModelUse]) -> Iterator[Metric]:
    whole = HistogramMetricFamily(
        "edge_inference_request_duration_seconds",
        "Answered requests, from their arrival to their answer.",
        labels=_LABELS,
    )
    phases = HistogramMetricFamily(
        "edge_inference_phase_duration_seconds",
        "Requests that were run: waiting, copying in, in the engine, answering.",
        labels=[*_LABELS, "phase"],
    )
    for one in models:
        for name, times in one.phases.items():
            if name == "whole":
                whole.add_metric(_of(one), _buckets(times), times.sum_ns / 1e9)
            else:
                phases.add_metric([*_of(one), name], _buckets(times), times.sum_ns / 1e9)
    yield from (whole, phases)


def _buckets(times: Histogram) -> list[tuple[str, float]]:
    finite = [(str(bound / 1e9), float(times.below(bound))) for bound in _BOUNDS_NS]
    return [*finite, ("+Inf", float(times.count))]


def _batches(models: Iterable[ModelUse]) -> Iterator[Metric]:
    sizes = HistogramMetricFamily(
        "edge_inference_batch_size", "Requests in one run of the engine.", labels=_LABELS
    )
    for one in models:
        finite = [(str(float(bound)), float(_runs_up_to(one, bound))) for bound in _BATCHES]
        sizes.add_metric(_of(one), [*finite, ("+Inf", float(one.executions))], one.answered)
    yield sizes


def _runs_up_to(model: ModelUse, size_max: int) -> int:
    return sum(runs.count for size, runs in model.runs.items() if size <= size_max)


def _gauges(models: Iterable[ModelUse]) -> Iterator[Metric]:
    families = {
        name: GaugeMetricFamily(name, documentation, labels=_LABELS)
        for name, documentation in (
            ("edge_inference_in_flight", "Requests inside the model."),
            ("edge_model_waiting", "Its requests that wait for a turn."),
            ("edge_model_running", "Its runs now."),
            ("edge_model_memory_bytes", "What loading it took, at least its files."),
            ("edge_model_load_duration_seconds", "What its last load took."),
            ("edge_model_serving", "1: requests that name no version come here."),
        )
    }
    info = GaugeMetricFamily(
        "edge_model_info", "What it is.", labels=[*_LABELS, "variant", "engine", "digest"]
    )
    for one in models:
        values = (
            *(one.in_flight, one.waiting, one.running, one.memory_bytes, one.load_ns / 1e9),
            float(one.state is State.SERVING),
        )
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric(_of(one), value)
        info.add_metric([*_of(one), one.variant, one.engine, one.artifact], 1)
    yield from (*families.values(), info)


def _caches(models: Iterable[ModelUse]) -> Iterator[Metric]:
    lookups = CounterMetricFamily(
        "edge_response_cache_lookups",
        "Requests by where their answer came from, since inference started.",
        labels=["model", "source"],
    )
    held = GaugeMetricFamily(
        "edge_response_cache_bytes", "Answers held.", labels=["model", "level"]
    )
    entries = GaugeMetricFamily(
        "edge_response_cache_entries", "Answers in memory.", labels=["model"]
    )
    for one in models:
        cache = one.cache
        for source, count in (
            ("memory", cache.memory_hits),
            ("file", cache.file_hits),
            ("shared", cache.shared),
            ("run", cache.misses),
        ):
            lookups.add_metric([one.model, source], count)
        held.add_metric([one.model, "memory"], cache.memory_bytes)
        held.add_metric([one.model, "file"], cache.file_bytes)
        entries.add_metric([one.model], cache.entries)
    yield from (lookups, held, entries)
