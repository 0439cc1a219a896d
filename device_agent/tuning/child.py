"""``python -m device_agent.tuning.child``: one setting of one model, loaded and asked.

The same loader, dispatcher and buffers as where it serves, in a process of its own and of low
priority. Reads a Start and then Asks from standard input, a JSON document a line; ends with it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import shutil
import signal
import sys
import threading
import time
from array import array
from pathlib import Path

# Both are read at import, so they must stand before any other import of this process.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import msgspec

from device_agent.config import ModelConfig
from device_agent.serving import Dispatcher, ModelTable, memory
from device_agent.serving.batch_trial import has_rows
from device_agent.serving.load import Loader, LoadOrder
from device_agent.serving.request import GivenTensor, Request
from device_agent.tuning.messages import Ask, Start, Told
from edge_sdk.base import Digest, EdgeError
from edge_sdk.engines import Engine, PlanRoom, open_engine
from edge_sdk.formats import open_model
from edge_sdk.tensor_pool import TensorPool

_LATENCIES_MAX = 2000  # of one answer
_ALONE_MIN = 3  # requests, however slow
_PR_SET_PDEATHSIG = 1


class Served:
    """The model behind a dispatcher, and one request for it."""

    def __init__(self, start: Start) -> None:
        """Raises: EdgeError where it cannot be loaded so."""
        folder = Path(start.folder)
        open_model(folder / start.entry)  # refuses one whose data lie outside its folder
        # Imported before, so that the engine's own memory is not taken for the model's.
        engine = open_engine(start.engine)
        self.loadings = engine.facts().loadings
        self.library = library_of(engine)
        before_bytes = memory.status_bytes("RssAnon")
        served = msgspec.convert(start.served, ModelConfig)
        pool = TensorPool(budget_bytes=start.memory_bytes or memory.total_bytes())
        loader = Loader(
            pool,
            threads=start.engine_threads,
            models={start.model: served},
            memory_bytes=start.memory_bytes,
            plans=_plan_room(start),
        )
        self.generation = loader.load(_order(start))
        self.table = ModelTable()
        self.table.switch(self.generation)
        self.table.set_ready()
        running_max = max(1, os.cpu_count() or 1)  # as where it serves
        self.dispatcher = Dispatcher(
            self.table, running_max=running_max, models={start.model: served}
        )
        for _ in range(3):
            self.ask_once(self.request())
        memory.give_back()
        self.memory_bytes = max(memory.status_bytes("RssAnon") - before_bytes, 0)

    @property
    def takes_batches(self) -> bool:
        return has_rows(self.generation.session)

    def request(self) -> Request:
        """One for each thread: the golden sample, or seeded inputs."""
        golden = self.generation.identity.golden
        inputs = [
            GivenTensor(
                name=spec.name,
                dtype=spec.dtype,
                shape=golden[spec.name].shape,
                data=golden[spec.name],
            )
            for spec in self.generation.session.inputs
        ]
        return Request(model=self.generation.identity.model, version="", inputs=inputs)

    def ask_once(self, request: Request) -> None:
        with self.dispatcher.run(request):
            pass


def library_of(engine: Engine) -> str:
    """The module that an engine stands on: the one of its libraries that was imported."""
    libraries = getattr(type(engine), "libraries", ())
    return next((name for name in libraries if name in sys.modules), type(engine).__module__)


def measure(served: Served, ask: Ask) -> Told:
    """Latencies of ``clients`` that each ask again when they are answered."""
    kept = [array("q") for _ in range(ask.clients)]
    begin_ns = time.perf_counter_ns()
    end_ns = begin_ns + int(ask.seconds * 1e9)
    count_min = _ALONE_MIN if ask.clients == 1 else 1
    threads = [
        threading.Thread(target=_keep_asking, args=(served, mine, end_ns, count_min))
        for mine in kept[1:]
    ]
    for thread in threads:
        thread.start()
    _keep_asking(served, kept[0], end_ns, count_min)
    for thread in threads:
        thread.join()
    seconds = (time.perf_counter_ns() - begin_ns) / 1e9
    latencies = [one for mine in kept for one in mine]
    return Told(
        state="measured",
        latencies_ns=tuple(latencies[:: max(1, -(-len(latencies) // _LATENCIES_MAX))]),
        count=len(latencies),
        seconds=seconds,
        memory_bytes=served.memory_bytes,
    )


def _keep_asking(served: Served, kept: array[int], end_ns: int, count_min: int) -> None:
    request = served.request()
    before_ns = time.perf_counter_ns()
    while before_ns < end_ns or len(kept) < count_min:
        served.ask_once(request)
        after_ns = time.perf_counter_ns()
        kept.append(after_ns - before_ns)
        before_ns = after_ns


def _plan_room(start: Start) -> PlanRoom:
    folder = Path(start.plans_folder)
    return PlanRoom(
        folder=folder,
        room_bytes=lambda: shutil.disk_usage(folder.parent).free,
        held=lambda: (Digest.parse(start.artifact),),
    )


def _order(start: Start) -> LoadOrder:
    return LoadOrder(
        model=start.model,
        artifact=Digest.parse(start.artifact),
        version="",
        variant="",
        folder=Path(start.folder),
        entry=start.entry,
        engine=start.engine,
        golden_path=start.golden_path,
    )


def _say(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def _stand_back(start: Start) -> None:
    """Waits for what serves, and ends with who asked."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(start.nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve() -> None:
    """Until standard input ends."""
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
    _stand_back(start)
    try:
        served = Served(start)
    except EdgeError as error:
        _say(Told(state="refused", reason=error.reason, message=error.message))
        return
    _say(
        Told(
            state="loaded",
            load_ms=served.generation.load_ms,
            memory_bytes=served.memory_bytes,
            takes_batches=served.takes_batches,
            loadings=served.loadings,
            library=served.library,
        )
    )
    gc.collect()
    gc.freeze()
    while line := sys.stdin.buffer.readline():
        _say(measure(served, msgspec.json.decode(line, type=Ask)))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us decides
    try:
        serve()
    finally:
        # Not through the interpreter's end: an engine's threads must not hang it.
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
