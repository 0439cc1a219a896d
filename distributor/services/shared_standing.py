"""What other processes on the same database decided about keys and operators, followed here.

A key that is refused, an operator who is removed or loses a role: in this process that takes
effect at once. What another one did is looked for every two seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from sqlalchemy import Connection

from distributor import identity, operators
from distributor.operators import Grant
from distributor.services.standing import Standing
from distributor.storage import Database
from edge_sdk.base import EdgeError

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 2.0


class SharedStanding:
    """Keeps ``standing`` up with the database, for as long as this process lives."""

    def __init__(
        self, database: Database, standing: Standing, *, every_s: float = _LOOK_EVERY_S
    ) -> None:
        self._database = database
        self._standing = standing
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Once, now. Raises: UnavailableError, ResourceError."""
        if await self._database.read(identity.count_refused) != self._standing.known:
            await self._refuse_new()
        # What opens while this reads is looked at the next time: it may know newer grants.
        streams = self._standing.of_operators()
        grants = await self._database.read(_grants, streams) if streams else {}
        for name, now in grants.items():
            if now is None:
                self._standing.end_of(name, "this operator was removed")
                continue
            for stream in streams[name]:
                if not operators.within(stream.grants, now):
                    stream.end("roles of this operator were taken away")

    async def _refuse_new(self) -> None:
        for one in await self._database.read(identity.refused):
            if self._standing.knows(one.key):
                continue
            self._standing.refuse(one.key, one.reason)
            if one.kind == "operator":  # by whatever token as well
                self._standing.end_of(one.name, f"this operator is refused: {one.reason}")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except EdgeError as error:
                _LOG.warning("which keys are refused cannot be looked up: %s", error.message)
            except Exception:  # noqa: BLE001 - logged, and tried again: this loop must not end
                _LOG.exception("which keys are refused cannot be looked up")


def _grants(connection: Connection, names: Collection[str]) -> dict[str, tuple[Grant, ...] | None]:
    """By operator; None: there is none of that name."""
    found = {one.name: one.grants for one in operators.list_operators(connection)}
    return {name: found.get(name) for name in names}
