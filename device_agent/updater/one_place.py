"""The one place for planning, fetching and trying: memory, disk and link are for one update."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from device_agent.updater.lifecycle import Act, is_ended
from device_agent.updater.update import Update

EXCLUSIVE = (Act.PLAN, Act.FETCH, Act.TRY)


class OnePlace:
    """Belongs to the loop's thread. ``updates`` is the driver's own table, by model."""

    def __init__(
        self,
        updates: Mapping[str, Update],
        *,
        trial_runs: Callable[[], bool],
        perform: Callable[[Update, Act], None],
    ) -> None:
        self._updates = updates
        self._trial_runs = trial_runs
        self._perform = perform
        self._waiting: list[tuple[Update, Act]] = []

    def take(self, update: Update, act: Act) -> bool:
        """False: ``act`` is performed later, when it is its turn."""
        if act in EXCLUSIVE and self._is_taken(update):
            self._waiting.append((update, act))
            return False
        return True

    def next(self) -> None:
        """Whoever waited longest, where the place is free."""
        while self._waiting and not self._is_taken():
            update, act = self._waiting.pop(0)
            if self._updates.get(update.model) is update and not is_ended(update.state):
                self._perform(update, act)

    def _is_taken(self, update: Update | None = None) -> bool:
        """It is another update's, or a trial that was stopped has yet to end."""
        return self._trial_runs() or any(
            other.busy for other in self._updates.values() if other is not update
        )
