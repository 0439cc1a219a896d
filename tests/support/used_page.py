"""A statistics page on which two models have been at work."""

from __future__ import annotations

from device_agent.serving.statistics import Statistics
from device_agent.statistics_page import (
    Described,
    PageSnapshot,
    PageWriter,
    private_page,
    read_page,
)


def used_words() -> memoryview:
    """``team/digits`` 1.0.0 is unloaded, 2.0.0 serves with a cache, and so does ``team/words``."""
    words = private_page()
    page = PageWriter(words, pid=77)
    page.beat(memory_bytes=50_000_000, pool=[100, 80, 60, 70, 3, 9, 8, 1], waiting=[1, 2, 3])
    old = counters(page, "team/digits", 1)
    use(old, requests=10)
    old.close()
    digits = counters(page, "team/digits", 2)
    use(digits, requests=1000)
    digits.found(whole_ns=800)
    digits.missed(own_ns=90)
    digits.failed(whole_ns=100, engine=False)
    digits.failed(whole_ns=100, engine=True)
    digits.failed(whole_ns=100, engine=False, refused=True)
    digits.set_cache([6, 1, 1, 3, 3, 4096, 65536])
    digits.set_gauges(in_flight=2, waiting=4, running=1)
    digits.set_serving(True)
    words_model = counters(page, "team/words", 3)
    words_model.set_serving(True)
    for size, leads in ((2, True), (2, False)):
        words_model.succeeded(
            queue_ns=10, input_ns=10, infer_ns=10, output_ns=10, batch_size=size, leads=leads
        )
    return words


def used_page() -> PageSnapshot:
    return read_page(used_words())


def counters(page: PageWriter, model: str, major: int) -> Statistics:
    row = page.claim(
        Described(
            model=model,
            version=f"{major}.0.0",
            variant="fp32",
            engine="onnxruntime",
            artifact=bytes([major]) * 32,
        )
    )
    assert row is not None
    statistics = Statistics(row, let_go=page.let_go)
    statistics.set_loaded(memory_bytes=24_000_000, load_ms=12.5)
    return statistics


def use(statistics: Statistics, *, requests: int) -> None:
    """Requests of about 10 µs; each hundredth computes for a millisecond."""
    for number in range(requests):
        statistics.succeeded(
            queue_ns=1000,
            input_ns=2000,
            infer_ns=1_000_000 if number % 100 == 99 else 3000,
            output_ns=4000,
        )
