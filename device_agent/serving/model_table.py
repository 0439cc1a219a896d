"""Which loaded artifact answers for which model, switched by one assignment."""

from __future__ import annotations

import threading

from device_agent.serving.generation import Generation
from device_agent.serving.routing import Share
from device_agent.serving.sequences import Sequence
from edge_sdk.base import NotFoundError, UnavailableError
from edge_sdk.client import VersionNotActiveError

START_WAIT_S = 10.0


class ModelTable:
    """Read by every request without a lock; changed by one writer at a time."""

    def __init__(self) -> None:
        self._active: dict[str, Generation] = {}
        self._canaries: dict[str, tuple[Generation, Share]] = {}  # by model; mostly none
        self._gone: frozenset[str] = frozenset()
        self.changes = 0  # how often the rest was changed; last of all in each change
        self._lock = threading.Lock()
        self._loaded = threading.Event()

    @property
    def ready(self) -> bool:
        """Whether the slots of the start were loaded."""
        return self._loaded.is_set()

    def set_ready(self) -> None:
        """Who waits for a model of a slot hears now whether there is one."""
        self._loaded.set()

    def switch(self, generation: Generation) -> Generation | None:
        """From here on ``generation`` answers. Returns the one that did before."""
        model = generation.identity.model
        with self._lock:
            before = self._active.get(model)
            candidate, _ = self._canaries.get(model, (None, None))
            if generation.cache is not None:
                # First, so that no request of this generation finds an answer of the one before.
                identity = generation.identity
                generation.cache.serve(identity.artifact, runs_on=identity.runs_on)
            self._active = {**self._active, model: generation}
            self._end_canary(model)
            self.changes += 1
        generation.statistics.set_serving(True)
        for other in (before, candidate):
            if other is None or other is generation:
                continue
            other.statistics.set_serving(False)
            if other.states is not None:
                other.states.end_all(generation.states)
        return before

    def stand_beside(self, candidate: Generation, share: float) -> None:
        """From here on it answers that share of its model's requests, until the next switch."""
        with self._lock:
            canary = (candidate, Share(share))
            self._canaries = {**self._canaries, candidate.identity.model: canary}
            self.changes += 1
        candidate.statistics.set_serving(True)

    def stand_alone(self, model: str) -> None:
        """Who serves answers all requests again."""
        with self._lock:
            candidate, _ = self._canaries.get(model, (None, None))
            self._end_canary(model)
            self.changes += 1
        if candidate is not None:
            candidate.statistics.set_serving(False)

    def _end_canary(self, model: str) -> None:
        self._canaries = {name: one for name, one in self._canaries.items() if name != model}

    def remove(self, generation: Generation) -> None:
        """Nobody answers for its model from here on, if it was the one that did."""
        model = generation.identity.model
        with self._lock:
            if model in self._canaries and self._canaries[model][0] is generation:
                self._end_canary(model)
            if self._active.get(model) is generation:
                self._gone |= {model}
                if generation.cache is not None:
                    generation.cache.stop()
                self._active = {name: one for name, one in self._active.items() if name != model}
                self.changes += 1
                generation.statistics.set_serving(False)

    def serving(self, model: str) -> Generation | None:
        """Who answers for a model now."""
        return self._active.get(model)

    def answers_alone(self, generation: Generation) -> bool:
        """Whether it serves, and no candidate has a share of its model's requests."""
        model = generation.identity.model
        return model not in self._canaries and self._active.get(model) is generation

    def active(self) -> tuple[Generation, ...]:
        """Sorted by model."""
        return tuple(one for _, one in sorted(self._active.items()))

    def answering(self) -> tuple[Generation, ...]:
        """All that answer requests now, candidates for a share among them."""
        return (*self.active(), *(one for one, _ in self._canaries.values()))

    def gone(self) -> tuple[str, ...]:
        """Models that did serve since the start and no longer do, sorted."""
        return tuple(sorted(self._gone - set(self._active)))

    def find(self, model: str, version: str, *, wait_s: float = START_WAIT_S) -> Generation:
        """Who answers for a model; ``version`` is the one demanded, or empty.

        Right after a start it waits at most ``wait_s`` for the slots to be loaded, so that a
        restart costs a caller time instead of an error.
        Raises: NotFoundError; VersionNotActiveError; UnavailableError (still loading, or
        unloaded while a version was demanded).
        """
        generation = self._active.get(model)
        if generation is None and self._loaded.wait(wait_s):
            generation = self._active.get(model)
        if generation is None:
            raise self._absent(model, version)
        active = generation.identity.version
        if version and version != active:
            canary = self._canaries.get(model)
            if canary is not None and canary[0].identity.version == version:
                return canary[0]
            raise VersionNotActiveError(
                f"Request for unknown model: {model!r} version {version} is not found; "
                f"version {active} is active",
                model=model,
                version=version,
                active=active,
            )
        return generation

    def enter(
        self,
        model: str,
        version: str,
        *,
        sequence: Sequence | None = None,
        wait_s: float = START_WAIT_S,
    ) -> Generation:
        """As ``find``, with the request counted in: its ``leave`` must follow. Where no version
        is demanded, a canary answers its share."""
        active = self._active.get(model)
        if (
            active is not None
            and not self._canaries
            and version in ("", active.identity.version)
            and active.enter()
        ):
            return active
        while True:
            generation = self.find(model, version, wait_s=wait_s)
            if self._canaries and not version:
                generation = self._choose(generation, sequence)
            if generation.enter():
                return generation

    def _choose(self, active: Generation, sequence: Sequence | None) -> Generation:
        """A sequence that has a state stays with it; others go by share."""
        candidate, share = self._canaries.get(active.identity.model, (active, None))
        if share is None or candidate is active:
            return active
        if sequence is None:
            return candidate if share.takes_next() else active
        if not sequence.start:
            for one in (candidate, active):
                if one.states is not None and one.states.knows(sequence.id):
                    return one
        return candidate if share.takes(sequence) else active

    def _absent(self, model: str, version: str) -> Exception:
        if not self.ready:
            return UnavailableError(f"model {model!r} may still be loading; try again soon")
        if model not in self._gone:
            return NotFoundError(f"Request for unknown model: {model!r} is not found", model=model)
        message = f"Request for unknown model: {model!r} has no available versions"
        return UnavailableError(message) if version else NotFoundError(message, model=model)
