"""What inference says, and what follows from it for the updates under way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from device_agent.errors import CandidateRefusedError
from device_agent.records import (
    Cached,
    Hello,
    Loading,
    Message,
    Observed,
    Prepared,
    Switch,
    Switched,
    Unserved,
)
from device_agent.store import Slot
from device_agent.updater.context import Context
from device_agent.updater.deliver import Deliverer
from device_agent.updater.lifecycle import Event, State, is_ended, is_serving
from device_agent.updater.switch import Switcher
from device_agent.updater.update import Update, begin_held
from edge_sdk.base import (
    Digest,
    EdgeError,
    ProofError,
    RefusedError,
    ResourceError,
    UnavailableError,
    error_classes,
)

_DEATHS_MAX = 2  # each takes down what serves as well
_START_DEATHS_MAX = 3  # while nothing serves anyway
_NOT_LOADED = "inference did not load it when it started; it is asked again, or its log says why"


class InferencePeer:
    """Belongs to the loop's thread. ``pid`` is 0 until inference said Hello.

    ``updates`` is the driver's own table, by model.
    """

    def __init__(
        self,
        context: Context,
        updates: Mapping[str, Update],
        *,
        deliverer: Deliverer,
        switcher: Switcher,
        reconcile: Callable[[], None],
        dies_at_start: Callable[[str, Digest, bool], None],
    ) -> None:
        self.pid = 0
        self.caches: dict[str, Cached] = {}  # by model: what was heard last
        self._unserved: dict[str, Unserved] = {}  # by model
        self._context = context
        self._store = context.store
        self._updates = updates
        self._deliverer = deliverer
        self._switcher = switcher
        self._reconcile = reconcile
        self._dies_at_start = dies_at_start
        self._loading: Loading | None = None  # the last word of a start that is not over
        self._start_deaths: dict[Digest, int] = {}  # since the last start that went well
        self._to_serve: dict[str, int] = {}  # by model: the order to serve what its slot names

    @property
    def is_ready(self) -> bool:
        """Inference said Hello, and is not being started again."""
        return self.pid != 0 and self._loading is None

    def unserved(self, model: str, active: Digest) -> Unserved | None:
        """Why inference does not answer with what the slot of a model names; None: it does."""
        if not self.is_ready:
            message = "the inference process is not ready"
            return Unserved(artifact=active, reason=UnavailableError.__name__, message=message)
        found = self._unserved.get(model)
        return found if found is not None and found.artifact == active else None

    def hear(self, message: Message) -> None:
        """What inference said."""
        if isinstance(message, Hello):
            self._on_hello(message)
        elif isinstance(message, Loading):
            self._on_loading(message)
        elif isinstance(message, (Prepared, Switched)):
            self._on_answer(message)
        elif isinstance(message, Cached):
            self.caches[message.model] = message
        elif isinstance(message, Observed):
            update = self._updates.get(message.model)
            if update is not None and update.order == message.number and update.probation:
                update.probation.take(message)
                self._switcher.evaluate(update)

    def _on_answer(self, message: Prepared | Switched) -> None:
        if isinstance(message, Switched) and message.ok:
            self._unserved.pop(message.model, None)
        if self._to_serve.get(message.model) == message.number:
            self._serve_again(message)
            return
        update = self._updates.get(message.model)
        if update is None or update.order != message.number:
            return  # the answer to an older order
        if update.timer is not None and isinstance(message, Prepared):
            update.timer.cancel()
            update.timer = None
            update.asked += 1
        if message.ok:
            event = Event.PREPARED if isinstance(message, Prepared) else Event.SWITCH_DONE
            facts = {}
            if isinstance(message, Prepared):
                facts = {"memory_bytes": str(message.memory_bytes)}
                if update.state is State.TRIED:
                    facts |= self._switcher.mode_to_come(update)
            self._context.happen(update, event, facts=facts)
            return
        error = named(RefusedError(message.message), message.reason)
        if isinstance(message, Switched):
            self._context.happen(update, Event.SWITCH_FAILED, error=error)
        elif message.reason == ResourceError.__name__ and update.state is State.TRIED:
            update.retries += 1
            self._context.happen(update, Event.INTERRUPTED, error=ResourceError(message.message))
        else:
            self._context.happen(update, Event.PREPARE_FAILED, error=error)

    def _serve_again(self, message: Prepared | Switched) -> None:
        """The artifact of a slot that inference did not serve is loaded: switch to it."""
        if isinstance(message, Prepared) and message.ok:
            with contextlib.suppress(EdgeError):
                self._context.send(
                    Switch(
                        model=message.model,
                        artifact=message.artifact,
                        probation=False,
                        number=message.number,
                    )
                )
        else:
            del self._to_serve[message.model]
            self._give_up(message.model, message.artifact, message.reason, message.message)

    def _give_up(self, model: str, artifact: Digest, reason: str, message: str) -> None:
        """Until its next start, inference will not serve what the model's slot names."""
        before = self._unserved.get(model)
        instead = None if before is None else before.instead
        self._unserved[model] = Unserved(
            artifact=artifact, reason=reason, message=message, instead=instead
        )

    def _on_hello(self, hello: Hello) -> None:
        crashed = self.pid not in (0, hello.pid)
        if self.pid != hello.pid:
            self.caches.clear()
        self.pid = hello.pid
        self._loading = None
        self._start_deaths.clear()
        self._to_serve.clear()
        self._unserved.clear()
        for update in tuple(self._updates.values()):
            if crashed and is_serving(update.state):
                message = "the inference process ended while the candidate served"
                self._context.happen(update, Event.CRASHED, message=message)
            elif crashed and update.state is State.TRIED:
                self._load_again(update)
        for artifact in hello.damaged:
            self._on_damaged(artifact)
        for slot in self._store.slots():
            self._compare(slot, hello)
        for slot in self._store.slots():
            waiting = self._updates.get(slot.model)
            moving = waiting is not None and not is_ended(waiting.state)
            serving = hello.serving.get(slot.model)
            if moving or slot.active in hello.damaged or serving == slot.active:
                continue
            self._put_right(slot.model, slot.active, mend=True)

    def _compare(self, slot: Slot, hello: Hello) -> None:
        """Notes what inference does not serve, though a slot names it."""
        serving = hello.serving.get(slot.model)
        if serving in (slot.active, slot.starts_with):
            return
        damaged = slot.active in hello.damaged
        self._unserved[slot.model] = Unserved(
            artifact=slot.active,
            reason=(ProofError if damaged else UnavailableError).__name__,
            message="its files are damaged here" if damaged else _NOT_LOADED,
            instead=serving,
        )

    def _on_loading(self, message: Loading) -> None:
        """Where the start before this one never came to Hello, its last word was what it died
        of. One death may have another cause; several are the artifact's."""
        died, self._loading = self._loading, message
        if died is None or died.pid == message.pid:
            return
        deaths = self._start_deaths[died.artifact] = self._start_deaths.get(died.artifact, 0) + 1
        if deaths == _START_DEATHS_MAX:
            self._step_back(died.model, died.artifact)

    def _step_back(self, model: str, artifact: Digest) -> None:
        """From what inference dies of to the artifact before it, where that is whole."""
        slot = self._store.slot_files.get(model)
        if slot is None or slot.starts_with != artifact:
            return
        previous = None if slot.on_probation else slot.previous

        def proved(_: None, error: Exception | None) -> None:
            if artifact in self._start_deaths:  # or a start went well meanwhile
                self._dies_at_start(model, artifact, error is None)

        if previous is None:
            self._dies_at_start(model, artifact, False)
        else:
            self._context.loop.background(lambda: self._store.prove(previous), proved)

    def _put_right(self, model: str, artifact: Digest, *, mend: bool) -> None:
        """Has inference load what a slot names, once its files are proved: no file is loaded
        that may have changed since it was proved last. ``mend``: those that did are put aside.
        """
        number = self._to_serve[model] = next(self._context.numbers)

        def proved(_: None, error: Exception | None) -> None:
            if self._to_serve.get(model) != number:
                return  # inference was started again meanwhile
            if error is None:
                self._switcher.put_right(model, artifact, number=number)
                return
            del self._to_serve[model]
            reason = error.reason if isinstance(error, EdgeError) else type(error).__name__
            self._give_up(model, artifact, reason, str(error))
            if mend and isinstance(error, ProofError):
                self._on_damaged(artifact)

        self._context.loop.background(lambda: self._store.prove(artifact), proved)

    def _load_again(self, update: Update) -> None:
        """Inference ended while it should load the candidate: perhaps not for that reason."""
        update.deaths += 1
        if update.deaths < _DEATHS_MAX:
            self._switcher.prepare(update)
            return
        error = CandidateRefusedError(
            f"the inference process ended {update.deaths} times while it loaded the candidate"
        )
        self._context.happen(update, Event.PREPARE_FAILED, error=error)

    def _on_damaged(self, artifact: Digest) -> None:
        """Files of a slot's artifact did not prove: put them aside, and bring them again."""

        def proved(rotten: tuple[Digest, ...] | None, error: Exception | None) -> None:
            with contextlib.suppress(EdgeError):  # not even its manifest: reconcile sees that
                self._mend(artifact, rotten or ())
            self._reconcile()

        self._context.loop.background(lambda: self._store.rotten_files(artifact), proved)

    def _mend(self, artifact: Digest, rotten: tuple[Digest, ...]) -> None:
        manifest = self._store.manifest(artifact)
        model = str(manifest.model)
        if rotten:
            told = begin_held(model, artifact, manifest, kind="repair")
            told.state = State.FAILED
            self._deliverer.put_aside(told, rotten)
        elif self._store.is_held(artifact):
            self._store.trees.build(artifact, manifest)  # the blobs are good: link them again
            slot = self._store.slot_files.get(model)
            if slot is not None and slot.starts_with == artifact:
                self._put_right(model, artifact, mend=False)


def named(error: RefusedError, reason: str) -> EdgeError:
    """The typed error of that name, where there is one: the name travels in reports."""
    cls = error_classes().get(reason)
    return error if cls is None else cls(error.message)
