"""Numbered events: written to the journal first, sent until they are acknowledged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from itertools import takewhile

from device_agent.fleet_link import Note
from device_agent.records import AgentEvent
from device_agent.store.journal import (
    Acknowledged,
    Entered,
    Journal,
    Judged,
    Numbered,
    Refused,
)
from device_agent.updater.update import Update
from edge_sdk.base import Digest, EdgeError, ResourceError

BATCH = 200
TEXT_MAX = 4000  # characters: the journal refuses to read records of more than 1 MiB
_NUMBER_MAX = 2**53  # a device that counts a thousand events a second is there in 285,000 years


class EventLog:
    """What the journal says, as events.

    Listeners hear each new one by ``put`` (the loop's): after the acts that it announces.
    """

    def __init__(self, journal: Journal, put: Callable[[Callable[[], None]], None]) -> None:
        self._journal = journal
        self._put = put
        self._listeners: list[Callable[[AgentEvent], None]] = []

    def enter(
        self,
        update: Update,
        event: str,
        *,
        facts: Mapping[str, str] | None = None,
        judged: Judged | None = None,
    ) -> None:
        """Journals the state that ``update`` is in now; durable when this returns."""
        entered = Entered(
            number=self._journal.number + 1,
            at_ms=time.time_ns() // 1_000_000,
            model=update.model,
            version=update.version,
            variant=update.variant,
            artifact=str(update.artifact),
            rollout=update.rollout,
            attempt=update.attempt,
            kind=update.kind,
            state=update.state.value,
            event=event,
            reason=update.reason,
            message=update.message[:TEXT_MAX],
            facts={name: fact[:TEXT_MAX] for name, fact in (facts or {}).items()},
            fallback="" if update.fallback is None else str(update.fallback),
            spare="" if update.spare is None else str(update.spare),
            passing=tuple(map(str, update.passing)),
        )
        self._journal.append(*([judged] if judged is not None else []), entered)
        self._put(lambda: self._tell(to_agent_event(entered)))

    def refuse(self, error: EdgeError) -> None:
        """Journals that something was not believed, whatever model it was about."""
        refused = Refused(
            number=self._journal.number + 1,
            at_ms=time.time_ns() // 1_000_000,
            model="",
            version="",
            variant="",
            artifact="",
            rollout="",
            attempt=0,
            kind="trust",
            state="refused",
            event="refused",
            reason=error.reason,
            message=error.message[:TEXT_MAX],
            facts={name: str(fact)[:TEXT_MAX] for name, fact in error.facts.items()},
        )
        self._journal.append(refused)
        self._put(lambda: self._tell(to_agent_event(refused)))

    def enter_again(self, update: Update, event: str) -> int:
        """Journals an event that did not move the update on; how often it came in a row."""
        self.enter(update, event)
        order = (update.model, str(update.artifact), update.attempt, update.rollout)
        events = (
            one.event
            for one in reversed(self._journal.events())
            if (one.model, one.artifact, one.attempt, one.rollout) == order
        )
        return sum(1 for _ in takewhile(lambda one: one == event, events))

    def _tell(self, event: AgentEvent) -> None:
        for listener in tuple(self._listeners):
            listener(event)

    def listen(self, listener: Callable[[AgentEvent], None]) -> None:
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[AgentEvent], None]) -> None:
        self._listeners.remove(listener)

    def unacknowledged(self) -> list[Note]:
        """The next batch to send, oldest first."""
        waiting = self._journal.events(self._journal.acknowledged)[:BATCH]
        return [_note(entered) for entered in waiting]

    def acknowledged(self, number: int) -> bool:
        """The distributor keeps all up to ``number``.

        False where it knows of more events than this device ever had (its folder was made
        anew): numbers then go on from there, and the present states must be said again. A
        number that no device can have reached changes nothing.
        """
        if number > _NUMBER_MAX:
            return True
        if number > self._journal.number:
            self._journal.append(Acknowledged(number=number), Numbered(number=number))
            return False
        if number > self._journal.acknowledged:
            with contextlib.suppress(ResourceError):  # not written: it is sent again
                self._journal.append(Acknowledged(number=number))
        return True


def verdict_on(update: Update) -> Judged:
    """What is remembered of a candidate that was refused here."""
    return Judged(
        model=update.model,
        artifact=str(update.artifact),
        attempt=update.attempt,
        reason=update.reason,
        message=update.message,
    )


def to_agent_event(entered: Entered) -> AgentEvent:
    return AgentEvent(
        number=entered.number,
        at_ms=entered.at_ms,
        model=entered.model,
        version=entered.version,
        artifact=entered.artifact,
        state=entered.state,
        reason=entered.reason,
        message=entered.message,
        facts=entered.facts,
    )


def _note(entered: Entered) -> Note:
    return Note(
        number=entered.number,
        at_ms=entered.at_ms,
        model=entered.model,
        version=entered.version,
        artifact=Digest.parse(entered.artifact) if entered.artifact else None,
        rollout=entered.rollout,
        attempt=entered.attempt,
        state=entered.state,
        reason=entered.reason,
        message=entered.message,
        facts=entered.facts,
    )
