"""What AgentService asks of the updater; called from the server's threads. Pure."""

from __future__ import annotations

from typing import Protocol

from device_agent.records import AgentEvent, AgentStatus, HeldTree, ModelStatus
from device_agent.statistics_page.snapshot import PageSnapshot
from edge_sdk.base.digest import Digest


class EventFeed(Protocol):
    """Events from a number on, then as they happen."""

    def next(self, timeout_s: float) -> AgentEvent | None:
        """None where nothing happened in that time."""

    def close(self) -> None: ...


class AgentDoor(Protocol):
    """Each method answers or raises an EdgeError."""

    def status(self) -> AgentStatus: ...

    def models(self) -> tuple[ModelStatus, ...]: ...

    def update_now(self) -> int:
        """Checks in and waits for the answer; the number of the assignment accepted."""

    def roll_back(self, model: str) -> tuple[str, Digest]: ...

    def events(self, after: int) -> EventFeed: ...

    def statistics(self) -> PageSnapshot:
        """What the inference process has done, as it stands now."""

    def hold(self, model: str) -> HeldTree: ...

    def let_go(self, number: int) -> None: ...
