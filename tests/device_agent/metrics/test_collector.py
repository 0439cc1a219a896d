"""The statistics page as Prometheus text."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from device_agent.metrics.collector import PageCollector
from device_agent.statistics_page import private_page
from tests.support.used_page import used_words

DIGITS = {"model": "team/digits", "version": "2.0.0", "artifact": "02" * 6}


def scrape(words: memoryview) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PageCollector(words))
    return registry


def test_counters_and_gauges() -> None:
    """Requests by outcome, loads, memory, pool and cache say what is on the page."""
    get = scrape(used_words()).get_sample_value

    def requests(outcome: str) -> float | None:
        return get("edge_inference_requests_total", {**DIGITS, "outcome": outcome})

    outcomes = [requests(one) for one in ("run", "cached", "refused", "failed")]
    assert outcomes == [1000, 1, 1, 2]
    assert get("edge_inference_engine_errors_total", DIGITS) == 1
    assert get("edge_model_loads_total", DIGITS) == 1
    assert get("edge_model_memory_bytes", DIGITS) == 24_000_000
    assert get("edge_model_load_duration_seconds", DIGITS) == 0.0125
    assert get("edge_model_serving", DIGITS) == 1
    assert get("edge_inference_in_flight", DIGITS) == 2
    assert get("edge_inference_starts_total") == 1
    assert get("edge_inference_memory_bytes") == 50_000_000
    assert get("edge_tensor_pool_used_bytes") == 60
    assert get("edge_inference_waiting", {"priority": "low"}) == 3
    cache = {"model": "team/digits", "source": "memory"}
    assert get("edge_response_cache_lookups_total", cache) == 6
    info = {**DIGITS, "variant": "fp32", "engine": "onnxruntime", "digest": "02" * 32}
    assert get("edge_model_info", info) == 1


def test_histograms_add_up() -> None:
    """Buckets are cumulative, end with all there are, and their sums are exact."""
    get = scrape(used_words()).get_sample_value
    name = "edge_inference_phase_duration_seconds"
    compute = {**DIGITS, "phase": "compute"}
    assert get(f"{name}_bucket", {**compute, "le": "4.096e-06"}) == 990
    assert get(f"{name}_bucket", {**compute, "le": "0.001048576"}) == 1000
    assert get(f"{name}_bucket", {**compute, "le": "+Inf"}) == 1000
    assert get(f"{name}_count", compute) == 1000
    assert get(f"{name}_sum", compute) == pytest.approx(10 * 1e-3 + 990 * 3e-6)
    assert get("edge_inference_request_duration_seconds_count", DIGITS) == 1001
    words = {"model": "team/words", "version": "3.0.0", "artifact": "03" * 6}
    size = "edge_inference_batch_size"
    assert get(f"{size}_bucket", {**words, "le": "1.0"}) == 0
    assert get(f"{size}_bucket", {**words, "le": "2.0"}) == 1
    assert (get(f"{size}_count", words), get(f"{size}_sum", words)) == (1, 2)


def test_unloaded_models_keep_counters_only() -> None:
    """What an unloaded artifact did is still counted; it has no memory and serves nothing."""
    get = scrape(used_words()).get_sample_value
    old = {"model": "team/digits", "version": "1.0.0", "artifact": "01" * 6}
    assert get("edge_inference_requests_total", {**old, "outcome": "run"}) == 10
    assert get("edge_model_memory_bytes", old) is None


@pytest.mark.parametrize("words", [private_page(), used_words()], ids=["empty", "used"])
def test_the_text_is_read_by_others(words: memoryview) -> None:
    """The reference parser reads it, every name is documented, and no series comes twice."""
    text = generate_latest(scrape(words)).decode()
    seen = set()
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen
            seen.add(key)
    assert ("edge_inference_starts_total", ()) in seen
