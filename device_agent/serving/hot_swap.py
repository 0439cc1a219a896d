"""Loads beside what serves, switches by one assignment, and unloads what nobody uses.

All of it happens in one thread of low priority, in the order in which the updater asked; no
request waits for it. A generation is closed when the last request has left it.
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from device_agent.records import (
    Ask,
    Cached,
    Drop,
    Dropped,
    Loading,
    Message,
    Observed,
    Prepare,
    Prepared,
    Switch,
    Switched,
)
from device_agent.serving import memory
from device_agent.serving.cache import ResponseCache
from device_agent.serving.generation import Generation
from device_agent.serving.load import Loader, LoadOrder, warm_as
from device_agent.serving.mirror import Mirror, can_stand_in
from device_agent.serving.model_table import ModelTable
from device_agent.serving.replay import Watched
from edge_sdk.base import Digest, EdgeError

OBSERVE_S = 0.5
DEFECT = "Defect"  # the reason of an error that nobody raised on purpose
# Against a thread that computes in Python (a model's file being read), a request waits up to one
# interval for the interpreter each time it comes back from the engine: with the default of 5 ms
# that is seen. Shorter than what the gRPC server does at a stretch, and its threads take the
# interpreter from each other in the middle of it: a request over gRPC then takes a tenth longer.
# So it is short only while there is such a thread.
_INTERVAL_S = 500e-6

Key = tuple[str, Digest]
Job = Callable[[], None]


class Swapper:
    """Carries out what the updater asks for.

    ``send`` puts a message on the socket; ``hello`` makes the answer to Ask. ``start`` begins
    the thread, ``stop`` ends it after the job at hand.
    """

    def __init__(
        self,
        table: ModelTable,
        loader: Loader,
        *,
        send: Callable[[Message], None],
        hello: Callable[[], Message],
        observe_s: float = OBSERVE_S,
        caches: Mapping[str, ResponseCache] | None = None,
    ) -> None:
        self._table = table
        self._loader = loader
        self._send = send
        self._hello = hello
        self._observe_s = observe_s
        self._loaded: dict[Key, Generation] = {}
        self._watched: dict[str, Watched] = {}
        self._caches = caches or {}
        self._said: dict[str, Cached] = {}  # by model: the last word about its cache
        # Not a SimpleQueue: on CPython 3.10 its get with a timeout now and then waits for ever.
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="hot-swap", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def adopt(self, generation: Generation) -> None:
        """Makes a generation that was loaded from a slot the active one. Before ``start``."""
        identity = generation.identity
        self._loaded[identity.model, identity.artifact] = generation
        self._table.switch(generation)

    def handle(self, message: Message) -> None:
        """Queues what a message asks for; its answer is sent when it is done."""
        if isinstance(message, Prepare):
            self._jobs.put(lambda: self._prepare(message))
        elif isinstance(message, Switch):
            self._jobs.put(lambda: self._switch(message))
        elif isinstance(message, Drop):
            self._jobs.put(lambda: self._drop(message))
        elif isinstance(message, Ask):
            self._jobs.put(self._say_all)

    def say_hello(self) -> None:
        self._send(self._hello())

    def _say_all(self) -> None:
        self._said.clear()  # whoever asks has heard nothing yet
        self.say_hello()

    def _work(self) -> None:
        memory.lower_priority()
        while True:
            try:
                job = self._jobs.get(timeout=self._pause_s())
            except queue.Empty:
                self._observe()
                continue
            if job is None:
                return
            try:
                with _giving_way():
                    job()
            except Exception as error:  # noqa: BLE001 - a defect must not end all later swaps
                complain("a defect of ours in a swap", error)

    def _prepare(self, wanted: Prepare) -> None:
        try:
            generation = self._load(wanted)
        except Exception as error:  # noqa: BLE001 - whatever a candidate provokes, others serve on
            if not isinstance(error, EdgeError):
                complain(f"{wanted.model} {wanted.version} does not load", error)
            self._send(
                Prepared(
                    model=wanted.model,
                    artifact=wanted.artifact,
                    ok=False,
                    reason=error.reason if isinstance(error, EdgeError) else DEFECT,
                    message=str(error),
                    number=wanted.number,
                )
            )
            self._loader.trim()
            return
        serving = self._table.serving(wanted.model)
        if serving is not None and serving is not generation:
            warm_as(generation, serving)
        self._send(
            Prepared(
                model=wanted.model,
                artifact=wanted.artifact,
                ok=True,
                load_ms=generation.load_ms,
                memory_bytes=generation.memory_bytes,
                number=wanted.number,
            )
        )

    def _load(self, wanted: Prepare) -> Generation:
        key = (wanted.model, wanted.artifact)
        if key not in self._loaded:
            self._loaded[key] = self._loader.load(
                LoadOrder(
                    model=wanted.model,
                    artifact=wanted.artifact,
                    version=wanted.version,
                    variant=wanted.variant,
                    folder=Path(wanted.folder),
                    entry=wanted.entry,
                    engine=wanted.engine,
                    golden_path=wanted.golden_path,
                    tolerances=wanted.tolerances,
                    inputs=wanted.inputs,
                    outputs=wanted.outputs,
                )
            )
        return self._loaded[key]

    def _switch(self, wanted: Switch) -> None:
        generation = self._loaded.get((wanted.model, wanted.artifact))
        if generation is None:
            self._send(
                Switched(
                    model=wanted.model,
                    artifact=wanted.artifact,
                    ok=False,
                    reason="NotFoundError",
                    message=f"{wanted.artifact.short} of {wanted.model} was not prepared",
                    number=wanted.number,
                )
            )
            return
        serving = self._table.serving(wanted.model)
        if wanted.mode == "switch" or serving is None or serving is generation:
            self._take_over(wanted, generation)
        else:
            self._stand_beside(wanted, generation, serving)

    def _switched(self, wanted: Switch) -> None:
        self._send(
            Switched(model=wanted.model, artifact=wanted.artifact, ok=True, number=wanted.number)
        )

    def _take_over(self, wanted: Switch, generation: Generation) -> None:
        """It answers from the next request on, and is watched where that is asked for."""
        since = generation.statistics.snapshot()
        before = self._table.switch(generation)
        watched = self._watched.pop(wanted.model, None)
        if watched is not None:
            watched.end()
        self._switched(wanted)
        if not wanted.probation:
            return
        if before is generation:
            # Asked twice, or by an updater that was restarted: the comparison goes on.
            before = watched.before if watched else self._other(generation)
            since = watched.since if watched else since
        self._watched[wanted.model] = Watched(
            candidate=generation, before=before, since=since, number=wanted.number
        )

    def _stand_beside(self, wanted: Switch, candidate: Generation, before: Generation) -> None:
        """The version before goes on serving. Asked again, the comparison goes on."""
        watched = self._watched.get(wanted.model)
        asked = (candidate, before, wanted.mode)
        if watched and (watched.candidate, watched.before, watched.mode) == asked:
            watched.number = wanted.number
            self._switched(wanted)
            return
        if watched is not None:
            self._table.stand_alone(wanted.model)
            watched.end()
        mirror = None
        if can_stand_in(before.session, candidate.session):
            mirror = Mirror(before, candidate, candidate.identity.tolerances)
            if wanted.mode == "canary":
                candidate.copies = mirror
                self._table.stand_beside(candidate, wanted.share)
            else:
                before.copies = mirror
        self._watched[wanted.model] = Watched(
            candidate=candidate,
            before=before,
            since=candidate.statistics.snapshot(),
            number=wanted.number,
            mode=wanted.mode,
            mirror=mirror,
        )
        self._switched(wanted)

    def _other(self, generation: Generation) -> Generation | None:
        """Another loaded artifact of the same model, if there is one."""
        model = generation.identity.model
        others = (one for (name, _), one in self._loaded.items() if name == model)
        return next((one for one in others if one is not generation), None)

    def _drop(self, wanted: Drop) -> None:
        # What serves goes only with its whole model: the previous artifact may be serving
        # because the active one was found damaged, and the updater takes it for spare.
        serving = None if wanted.artifact is None else self._table.serving(wanted.model)
        gone = [
            key
            for key, one in self._loaded.items()
            if key[0] == wanted.model and wanted.artifact in (None, key[1]) and one is not serving
        ]
        del serving
        generations = [self._loaded.pop(key) for key in gone]
        watched = self._watched.get(wanted.model)
        if watched and (watched.candidate in generations or watched.before in generations):
            del self._watched[wanted.model]
            watched.end()
        del watched
        done = Dropped(model=wanted.model, artifact=wanted.artifact)
        if not generations:
            self._send(done)
            return
        waiting = list(generations)

        def closed(generation: Generation) -> None:
            generation.close()
            waiting.remove(generation)
            if not waiting:
                self._loader.trim()
                self._send(done)

        for generation in generations:
            self._table.remove(generation)
            generation.retire(lambda one=generation: self._jobs.put(lambda: closed(one)))  # type: ignore[misc]

    def _pause_s(self) -> float | None:
        states = any(one.states is not None for one in self._loaded.values())
        return self._observe_s if self._watched or self._caches or states else None

    def _observe(self) -> None:
        for generation in self._loaded.values():
            if generation.states is not None:
                generation.states.sweep()
        for watched in list(self._watched.values()):
            self._send(watched.observe())
        for model, cache in self._caches.items():
            now = Cached(model=model, **asdict(cache.use()))
            if now != self._said.get(model):
                self._said[model] = now
                self._send(now)


@contextmanager
def _giving_way() -> Iterator[None]:
    """Requests get the interpreter from this thread soon."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(min(before_s, _INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


def complain(what: str, error: BaseException) -> None:
    """Writes to standard error what went wrong where, for whoever mends it."""
    sys.stderr.write(f"inference: {what}:\n")
    traceback.print_exception(type(error), error, error.__traceback__)
    sys.stderr.flush()


def is_passing(message: Message) -> bool:
    """Whether a message may be lost: the next of its kind says as much."""
    return isinstance(message, (Observed, Loading, Cached))
