"""A request with buffers of its own: as any other, and gone with its generation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from device_agent.config import ModelConfig
from device_agent.serving import slots
from device_agent.serving.cache import ResponseCache
from device_agent.serving.repeated import Repeated
from device_agent.serving.request import GivenTensor, Request
from edge_sdk.base import ResourceError, UsageError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import Array
from edge_sdk.tensor_pool import Slab
from tests.support import onnx_models
from tests.support.serving_door import Serving, serving

NAME = "team/again"


class App:
    """Memory that is always the same, and a request for it."""

    def __init__(self, made: Serving, *, priority: int = 0) -> None:
        self.made = made
        self.x = np.ones((1, 4), np.float32)
        self.y = np.zeros((1, 4), np.float32)
        tensor = GivenTensor(name="x", dtype="float32", shape=self.x.shape, data=self.x)
        self.request = Request(model=NAME, version="", inputs=[tensor], priority=priority)

    def repeated(self) -> Repeated | None:
        with self.made.dispatcher.run(self.request) as answer:
            return self.made.dispatcher.repeated(self.request, answer, {"y": self.y})


@pytest.fixture
def made(tmp_path: Path) -> Serving:
    return serving(tmp_path, {NAME: onnx_models.linear(2.0)})


def begun(app: App) -> Repeated:
    repeated = app.repeated()
    assert repeated is not None
    return repeated


def test_each_run_reads_and_writes_the_same_memory(made: Serving) -> None:
    """What stands in the arrays at each run is computed, counted and written to the places."""
    app = App(made)
    repeated = begun(app)
    statistics = made.table.find(NAME, "").statistics
    before = statistics.snapshot().requests
    for value in (1.0, 5.0, -3.0):
        app.x[:] = value
        assert repeated.run()
        assert (app.y == 2 * value).all()
    assert statistics.snapshot().requests == before + 3
    load = made.dispatcher.scheduler.load()
    assert (load.running, load.waiting) == (0, (0, 0, 0))


def test_it_ends_with_its_generation(made: Serving) -> None:
    """After a switch it does not run; buffers of the version before go back at once, also where
    nobody asks again."""
    app, idle = App(made), App(made)
    before = made.table.find(NAME, "")
    repeated, silent = begun(app), begun(idle)
    made.serve(NAME, onnx_models.linear(3.0), "2.0.0")
    assert not repeated.run()
    assert repeated.over
    assert not silent.over
    gone: list[bool] = []
    before.retire(lambda: gone.append(True))
    assert gone
    used = made.pool.statistics().used_bytes
    before.close()
    assert silent.over
    assert made.pool.statistics().used_bytes < used
    assert not silent.run()
    silent.close()
    repeated.close()
    after = begun(app)
    assert after.run()
    assert (app.y == 3).all()


def test_only_so_many_keep_buffers(made: Serving) -> None:
    """Others go the way of all requests, until one gives its buffers back."""
    held = [begun(App(made)) for _ in range(slots._LENT_MAX)]
    other = App(made)
    assert other.repeated() is None
    used = made.pool.statistics().slabs_used
    held.pop().close()
    assert begun(other).run()
    assert made.pool.statistics().slabs_used == used  # the same ones


def test_where_no_engine_is_idle_it_waits_as_all_do(made: Serving) -> None:
    """It takes no turn that is not free; the dispatcher puts the request in the line."""
    repeated = begun(App(made))
    made.take_all_turns()
    assert not repeated.run()
    assert not repeated.over
    made.free_all_turns()
    assert repeated.run()


def test_a_candidate_beside_it_ends_it(made: Serving) -> None:
    """Requests that are shared with a candidate, or copied for it, are the dispatcher's."""
    shared, copied = begun(App(made)), begun(App(made))
    generation = made.table.find(NAME, "")

    class Copies:
        def offer(self, inputs: Mapping[str, Array]) -> None: ...

    generation.copies = Copies()
    assert not copied.run()
    assert copied.over
    generation.copies = None
    made.table.stand_beside(made.load(NAME, onnx_models.linear(3.0), "2.0.0"), 0.5)
    assert not shared.run()
    assert shared.over


def test_failures_are_the_engine_s_or_the_dispatcher_s(
    made: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that fails is counted and told; a promise of shapes that is not kept ends it."""
    app = App(made)
    repeated = begun(app)
    statistics = made.table.find(NAME, "").statistics

    def fail() -> None:
        raise EngineError("it broke")

    monkeypatch.setattr(repeated, "_run_static", fail)
    errors = statistics.snapshot().errors
    with pytest.raises(EngineError):
        repeated.run()
    assert statistics.snapshot().errors == errors + 1
    assert made.dispatcher.scheduler.load().running == 0

    def break_promise() -> None:
        raise UsageError("another shape")

    monkeypatch.setattr(repeated, "_run_static", break_promise)
    assert not repeated.run()
    assert repeated.over
    assert made.dispatcher.scheduler.load().running == 0


def test_what_needs_more_than_a_run_has_none(tmp_path: Path) -> None:
    """A model with a cache; inputs that are no arrays."""
    cached = serving(
        tmp_path / "cached",
        {NAME: onnx_models.linear(2.0)},
        caches={NAME: ResponseCache(1 << 20)},
    )
    assert App(cached).repeated() is None
    plain = serving(tmp_path / "plain", {NAME: onnx_models.linear(2.0)})
    app = App(plain)
    data = app.x.tobytes()
    tensor = GivenTensor(name="x", dtype="float32", shape=app.x.shape, data=data)
    app.request = Request(model=NAME, version="", inputs=[tensor])
    assert app.repeated() is None


def test_without_memory_for_it_the_request_goes_on_as_before(
    made: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is there: that buffers of its own are not costs nobody an error."""
    app = App(made)
    used = made.pool.statistics().slabs_used

    def refused(size_bytes: int) -> Slab:
        raise ResourceError(f"no {size_bytes} bytes")

    with made.dispatcher.run(app.request) as answer:
        monkeypatch.setattr(made.pool, "acquire", refused)
        assert made.dispatcher.repeated(app.request, answer, {"y": app.y}) is None
    assert made.pool.statistics().slabs_used == used
    monkeypatch.undo()
    assert begun(app).run()


def test_a_model_that_batches_lends_buffers_too(tmp_path: Path) -> None:
    """A request alone runs as in a model that does not; beside one that runs, it waits for
    company."""
    made = serving(
        tmp_path, {NAME: onnx_models.linear(2.0)}, settings={NAME: ModelConfig(batch_max=4)}
    )
    generation = made.table.find(NAME, "")
    costs = generation.batch_costs
    assert costs is not None
    costs.best = 4
    repeated = begun(App(made))
    assert repeated.run()
    queue = made.dispatcher.scheduler.queue(NAME)
    assert made.dispatcher.scheduler.enter(queue, 2)
    assert not repeated.run()
    made.dispatcher.scheduler.leave(queue, 2, 1)
    assert repeated.run()
    used = made.pool.statistics().used_bytes
    generation.close()
    assert repeated.over
    assert made.pool.statistics().used_bytes < used
