"""Many swaps while requests come: none fails, each answer is its version's, nothing stays."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref
from pathlib import Path

import numpy as np

from device_agent.config import ModelConfig
from device_agent.records import (
    PROTOCOL,
    Drop,
    Dropped,
    Hello,
    Message,
    Observed,
    Prepared,
    Switch,
    Switched,
)
from device_agent.serving import Dispatcher, ModelTable, Swapper
from device_agent.serving.load import Loader
from device_agent.serving.request import GivenTensor
from device_agent.store import Store
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models
from tests.support.held_models import hold, prepare

MODEL = "team/digits"
SWAPS = 24
CLIENTS = 3
SCALES = {"1.0.0": 1.0, "2.0.0": 2.0}


class Load:
    """Clients that ask without pause; ``wrong`` has what failed or was not its version's."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._over = threading.Event()
        self.wrong: list[object] = []
        self.answered: dict[str, int] = dict.fromkeys(SCALES, 0)
        self._threads = [
            threading.Thread(target=self._ask, args=(number + 1,)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        data = np.full((1, 4), number, np.float32).tobytes()
        given = [GivenTensor(name="x", dtype="float32", shape=(1, 4), data=data)]
        while not self._over.is_set():
            try:
                with self._dispatcher.infer(MODEL, "", given) as answer:
                    version = answer.identity.version
                    if not (answer.outputs["y"] == number * SCALES[version]).all():
                        self.wrong.append((version, answer.outputs["y"].tolist()))
            except Exception as error:  # noqa: BLE001 - any is one too many
                self.wrong.append(error)
                return
            self.answered[version] += 1
            time.sleep(0)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)


def test_no_request_fails_while_versions_change(tmp_path: Path) -> None:
    """Two versions take turns under load, by switch, canary and shadow, on requests that may
    share a run: no error, no answer of the wrong version, every size bound before the switch;
    afterwards one session is left, and its buffers."""
    store = Store.create(tmp_path / "state")
    artifacts = {
        version: hold(store, onnx_models.linear(scale), version=version)
        for version, scale in SCALES.items()
    }
    table, pool = ModelTable(), TensorPool(budget_bytes=1 << 26, check=True)
    table.set_ready()
    settings = {MODEL: ModelConfig(batch_max=4)}
    answers: queue.Queue[Message] = queue.Queue()
    hello = Hello(protocol=PROTOCOL, pid=1, serving={}, damaged=())
    loader = Loader(pool, threads=1, models=settings)
    swapper = Swapper(table, loader, send=answers.put, hello=lambda: hello, observe_s=0.005)

    def ask(message: Message) -> Message:
        swapper.handle(message)
        while isinstance(answer := answers.get(timeout=30), Observed):
            pass
        return answer

    swapper.start()
    sessions: list[weakref.ref[object]] = []
    load, slabs = None, []
    try:
        for number in range(SWAPS):
            now, before = list(artifacts.values())[:: 1 if number % 2 else -1]
            prepared = ask(prepare(store, now))
            assert isinstance(prepared, Prepared)
            assert prepared.ok, prepared.message
            candidate = swapper._loaded[MODEL, now]
            (homes,) = candidate.slots._idle.values()
            assert set(homes[0]._slots) == {1, 2, 3, 4}  # type: ignore[union-attr]
            sessions.append(weakref.ref(candidate.session))
            del candidate, homes
            mode = ("switch", "canary", "shadow")[number % 3]
            for order in (
                Switch(model=MODEL, artifact=now, probation=True, mode=mode, share=0.5),
                Switch(model=MODEL, artifact=now, probation=False),
            ):
                assert isinstance(ask(order), Switched)
            assert isinstance(ask(Drop(model=MODEL, artifact=before)), Dropped)
            load = load or Load(Dispatcher(table, running_max=2, models=settings))
            slabs.append(pool.statistics().slabs_used)
    finally:
        if load is not None:
            load.stop()
        swapper.stop()
    assert load is not None
    assert load.wrong == []
    assert min(load.answered.values()) > 0
    assert max(slabs[1:]) <= 2 * CLIENTS * 2 * 4  # of two versions at most, and few of each
    gc.collect()
    assert sum(one() is not None for one in sessions) == 1
    assert table.find(MODEL, "").session is sessions[-1]()
