"""What the inference process shows beside its counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.serving.cache import ResponseCache
from device_agent.serving.load import Loader
from device_agent.serving.on_page import Beat, statistics_for
from device_agent.serving.request import GivenTensor
from device_agent.statistics_page import PageWriter, State, private_page, read_page
from edge_sdk.base import UnavailableError, UsageError
from tests.support.onnx_models import linear
from tests.support.processes import wait_for
from tests.support.serving_door import order_for, serving


def test_loaded_models_and_gauges_are_shown(tmp_path: Path) -> None:
    """A model is on the page from its load to its end, with what the process holds."""
    words = private_page()
    page = PageWriter(words, pid=1)
    made = serving(tmp_path)
    loader = Loader(made.pool, threads=1, caches={"team/linear": ResponseCache(1000)}, page=page)
    generation = loader.load(order_for("team/linear", linear(1.0), tmp_path))
    (model,) = read_page(words).models
    assert (model.model, model.engine, model.state) == ("team/linear", "onnxruntime", State.LOADED)
    assert model.memory_bytes == generation.memory_bytes
    assert model.load_ns > 0
    made.table.switch(generation)
    assert generation.enter()
    beat = Beat(page, made.table, made.pool, made.dispatcher.scheduler)
    scheduler = made.dispatcher.scheduler
    assert scheduler.enter(scheduler.queue("team/linear"), 2)
    beat.once()
    now = read_page(words)
    assert now.memory_bytes > 1 << 20
    assert now.pool.held_bytes == made.pool.statistics().held_bytes > 0
    assert (now.models[0].state, now.models[0].in_flight) == (State.SERVING, 1)
    assert (now.running, now.models[0].running, now.waiting) == (1, 1, (0, 0, 0))
    generation.leave()
    made.table.remove(generation)
    assert read_page(words).models[0].state is State.LOADED
    generation.close()
    assert read_page(words).models[0].state is State.RETIRED


def test_gauges_are_set_again_and_again(tmp_path: Path) -> None:
    """The thread of gauges beats until it is stopped."""
    words = private_page()
    made = serving(tmp_path)
    beat = Beat(PageWriter(words, pid=1), made.table, made.pool, made.dispatcher.scheduler)
    beat.start()
    try:
        first = wait_for(lambda: read_page(words).beat_ms, "the first beat")
        wait_for(lambda: read_page(words).beat_ms > first, "another")
    finally:
        beat.stop()


def test_without_room_counters_are_private(tmp_path: Path) -> None:
    """An artifact too many is counted for its own process alone, and the page says so."""
    made = serving(tmp_path, {"team/linear": linear(1.0)})
    identity = made.table.find("team/linear", "").identity
    words = private_page()
    page = PageWriter(words, pid=1)
    page.claim = lambda _described: None  # type: ignore[method-assign]
    statistics = statistics_for(identity, page)
    statistics.succeeded(queue_ns=1, input_ns=1, infer_ns=1, output_ns=1)
    assert statistics.snapshot().requests == 1
    assert read_page(words).models == ()
    statistics.close()


def test_a_request_that_gets_no_turn_is_refused(tmp_path: Path) -> None:
    """Overload is counted apart from what is wrong with a request."""
    words = private_page()
    made = serving(tmp_path)
    loader = Loader(made.pool, threads=1, page=PageWriter(words, pid=1))
    made.table.switch(loader.load(order_for("team/linear", linear(1.0), tmp_path)))
    given = GivenTensor(name="x", dtype="float32", shape=(1, 4), data=bytes(16))
    made.take_all_turns()
    with pytest.raises(UnavailableError):
        made.dispatcher.infer("team/linear", "", [given], timeout_s=0)
    made.free_all_turns()
    with pytest.raises(UsageError):
        made.dispatcher.infer("team/linear", "", [])
    with made.dispatcher.infer("team/linear", "", [given]):
        pass
    (model,) = read_page(words).models
    assert (model.answered, model.failed, model.refused, model.errors) == (1, 2, 1, 0)
