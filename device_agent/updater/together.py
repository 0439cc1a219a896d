"""Models of one group switch together or not at all.

An update of a group waits twice: loaded, until all others are; and proved by its probation,
until all others are. Where one of them fails, none switches, and those that did go back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any

from device_agent.errors import GroupFailedError
from device_agent.store.slots import Slots
from device_agent.updater.context import Happen
from device_agent.updater.lifecycle import Event, State, is_serving
from device_agent.updater.update import Update
from edge_sdk.manifest import AssignedModel, Assignment


class Place(IntEnum):
    """How far one model of a group is on its way to what it is assigned."""

    LOST = 0  # a verdict here is against it
    COMING = 1
    LOADED = 2  # and waits to switch
    SERVING = 3
    PASSED = 4  # and waits to be kept
    ARRIVED = 5


class Verdict(IntEnum):
    NEVER = 0
    WAIT = 1
    GO = 2


# What may happen to one only when all others are that far.
NEEDED: Mapping[Event, Place] = {
    Event.PREPARED: Place.LOADED,
    Event.PASSED: Place.PASSED,
    Event.UNPROVED: Place.PASSED,
}


def judge(others: Iterable[Place], needed: Place) -> Verdict:
    """Whether a model of a group goes on, given where the others are. Pure."""
    lowest = min(others, default=Place.ARRIVED)
    if lowest is Place.LOST:
        return Verdict.NEVER
    return Verdict.GO if lowest >= needed else Verdict.WAIT


class Groups:
    """Holds events of updates back until the others of their group are as far.

    Belongs to the loop's thread. ``updates`` is the driver's own table, by model;
    ``assignment`` gives the newest one.
    """

    def __init__(
        self,
        updates: Mapping[str, Update],
        slots: Slots,
        *,
        assignment: Callable[[], Assignment | None],
        is_judged: Callable[[AssignedModel], bool],
        happen: Happen,
    ) -> None:
        self._updates = updates
        self._slots = slots
        self._assignment = assignment
        self._is_judged = is_judged
        self._happen = happen
        self._held: dict[str, tuple[Event, dict[str, Any]]] = {}  # by model: what waits to happen
        self._let: set[str] = set()  # models whose event may happen now

    def holds_back(self, update: Update, event: Event, told: dict[str, Any]) -> bool:
        """Whether ``event`` has to wait; it happens by itself when ``look`` finds that it may."""
        self._held.pop(update.model, None)
        needed = NEEDED.get(event)
        if needed is None or update.kind != "update" or update.model in self._let:
            return False
        others = self._others(update)
        places = {str(one.model): self._place(one) for one in others}
        if all(place is Place.ARRIVED for place in places.values()):
            return False
        # The last one waits for ``look`` as well. Went it first, an answer of inference could
        # be heard before the rest is told to go.
        self._held[update.model] = (event, told)
        late = ", ".join(model for model, place in places.items() if place < needed)
        update.message = f"waits for {late}, of the same group" if late else ""
        return True

    def is_lost(self, assigned: AssignedModel) -> bool:
        """It is not to be begun, since another of its group failed here."""
        model = str(assigned.model)
        slot = self._slots.get(model)
        if slot is not None and slot.active == assigned.artifact and not slot.on_probation:
            return False  # it came with a state of the group that was whole
        return any(self._is_judged(one) for one in self._group(model) if str(one.model) != model)

    def look(self) -> None:
        """After anything happened to any update: who may go on now, and who has to go back."""
        self._held = {model: held for model, held in self._held.items() if model in self._updates}
        for model, update in tuple(self._updates.items()):
            others = self._others(update)
            if not others and model not in self._held:
                continue
            held = self._held.get(model)
            needed = Place.SERVING if held is None else NEEDED[held[0]]
            verdict = judge(map(self._place, others), needed)
            if verdict is Verdict.NEVER:
                self._give_up(update, others)
            elif verdict is Verdict.GO and held is not None:
                self._let_go()
                return

    def _let_go(self) -> None:
        """All that may, one right after the other: places are read before any of them moves."""
        going = [
            (self._updates[model], held)
            for model, held in self._held.items()
            if judge(map(self._place, self._others(self._updates[model])), NEEDED[held[0]])
            is Verdict.GO
        ]
        self._let = {update.model for update, _ in going}
        for update, (event, told) in going:
            update.message = ""
            self._happen(update, event, **told)
        self._let = set()

    def _give_up(self, update: Update, others: list[AssignedModel]) -> None:
        failed = next(one for one in others if self._place(one) is Place.LOST)
        error = GroupFailedError(
            f"{failed.model} {failed.version}, of the same group, cannot be used on this device"
        )
        if is_serving(update.state):
            self._happen(update, Event.ROLLBACK_ASKED, error=error)
        elif update.model in self._held:
            self._happen(update, Event.STOPPED, error=error)

    def _others(self, update: Update) -> list[AssignedModel]:
        """The rest of its group, where the newest assignment still wants this very update."""
        group = self._group(update.model)
        own = [one for one in group if str(one.model) == update.model]
        if update.kind != "update" or not own or own[0].artifact != update.artifact:
            return []
        return [one for one in group if str(one.model) != update.model]

    def _group(self, model: str) -> list[AssignedModel]:
        assignment = self._assignment()
        for group in () if assignment is None else assignment.groups:
            if model in map(str, group):
                assert assignment is not None
                return [one for one in assignment.models if one.model in group]
        return []

    def _place(self, assigned: AssignedModel) -> Place:
        if self._is_judged(assigned):
            return Place.LOST
        model = str(assigned.model)
        update, slot = self._updates.get(model), self._slots.get(model)
        if slot is not None and slot.active == assigned.artifact and not slot.on_probation:
            return Place.ARRIVED
        if update is None or update.artifact != assigned.artifact:
            return Place.COMING
        held = self._held.get(model)
        if is_serving(update.state):
            return Place.SERVING if held is None else max(Place.SERVING, NEEDED[held[0]])
        return Place.LOADED if held is not None and update.state is State.TRIED else Place.COMING
