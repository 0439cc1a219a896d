"""What the updater's parts share; all of it belongs to the loop's thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from device_agent.config import AgentConfig
from device_agent.fleet_link import Capabilities, FleetLink
from device_agent.records import Message
from device_agent.store import Store
from device_agent.store.journal import Journal
from device_agent.updater.lifecycle import Event
from device_agent.updater.loop import Loop
from device_agent.updater.report import EventLog
from device_agent.updater.update import Update
from edge_sdk.base import Digest, EdgeError

if TYPE_CHECKING:
    from device_agent.trust.gate import Gate


class Happen(Protocol):
    """Tells the driver that something happened to an update (``run.py``)."""

    def __call__(
        self,
        update: Update,
        event: Event,
        *,
        error: EdgeError | None = None,
        message: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> None: ...


@dataclass(slots=True, kw_only=True)
class Context:
    """``link`` None: no distributor is configured. ``gate`` None: nor a factory root. ``send``
    raises InferenceGoneError. ``assigned``: every artifact of the assignment in force.

    ``numbers``: of orders to inference, none given out twice on this device.
    """

    config: AgentConfig
    store: Store
    journal: Journal
    log: EventLog
    loop: Loop
    link: FleetLink | None
    gate: Gate | None
    assigned: Callable[[], Collection[Digest]]
    capabilities: Capabilities
    send: Callable[[Message], None]
    numbers: Iterator[int]
    happen: Happen
    collect: Callable[[], None]
