"""Keeps this device's certificate good. Lives on the loop's thread, and decides only when.

A handshake that fails says "Socket closed" whatever the reason; so the certificate's own dates
are looked at first. They are judged by the distributor's clock in the end: a device whose
clock stands at 1970 hears from the distributor that it is time, and one that was off for too
long proves its key to the enrolment service.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from device_agent.config import AgentConfig
from device_agent.fleet_link import CheckedIn, FleetLink
from device_agent.identity import KeptIdentity, Marks
from device_agent.store import Store
from device_agent.updater.loop import Loop
from edge_sdk.base import EdgeError, RefusedError, TrustError, UnavailableError
from edge_sdk.identity import Issued

_FAILURES_SUSPECT = 3  # in a row: perhaps it is the certificate that nobody takes


def open_link(config: AgentConfig, store: Store) -> FleetLink | None:
    """To the distributor, as whom this device is enrolled; None where there is none.

    Raises: StateError (the identity is damaged).
    """
    if not config.distributor:
        return None
    identity = KeptIdentity(store).load()
    return FleetLink(config.distributor, device=config.device, identity=identity)


class Renewal:
    """Does nothing where the device has no certificate, as in tests without protection."""

    def __init__(
        self,
        loop: Loop,
        link: FleetLink,
        store: Store,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._link = link
        self._kept = KeptIdentity(store)
        self._marks = Marks(store) if link.identity is not None else None
        self._now_s = now_s
        self._busy = False
        self._told = ""  # why it was not renewed, said once
        self.refused: EdgeError | None = None  # what the distributor said to the last attempt

    def marks(self) -> tuple[bytes, bytes]:
        """For the check-in that is about to be sent."""
        return (b"", b"") if self._marks is None else self._marks.next()

    def first(self, then: Callable[[], None]) -> bool:
        """Whether the certificate is over, by this clock; then it is renewed, as far as that
        can be, and ``then`` is called."""
        identity = self._link.identity
        if identity is None or self._busy or not identity.is_expired(self._now_s()):
            return False
        self._begin(expired=True, then=then)
        return True

    def answered(self, answer: CheckedIn) -> None:
        """A check-in came through."""
        identity = self._link.identity
        if self._marks is None or identity is None:
            return
        self._marks.answered()
        if answer.renew_certificate or identity.should_renew(self._now_s()):
            self._begin(expired=False)

    def failed(self, error: EdgeError, failures: int, *, then: Callable[[], None]) -> None:
        """A check-in did not; ``failures`` in a row. ``then`` is called after a renewal."""
        identity = self._link.identity
        if identity is None or not isinstance(error, (UnavailableError, TrustError)):
            return
        unsure = self._now_s() < identity.facts.not_before_s  # this clock is wrong
        if unsure or isinstance(error, TrustError) or failures % _FAILURES_SUSPECT == 0:
            self._begin(expired=True, then=then, only_renewed=True)

    def _begin(
        self,
        *,
        expired: bool,
        then: Callable[[], None] = lambda: None,
        only_renewed: bool = False,
    ) -> None:
        if self._busy:
            return
        self._busy = True

        def done(issued: Issued | None, error: Exception | None) -> None:
            self._busy = False
            renewed = issued is not None and self._keep(issued)
            if renewed:
                self._told = ""
            self.refused = error if isinstance(error, TrustError | RefusedError) else None
            if issued is None:
                self._tell(error.message if isinstance(error, EdgeError) else repr(error))
            if renewed or not only_renewed:
                then()

        self._loop.background(lambda: self._link.renew(expired=expired), done)

    def _tell(self, why: str) -> None:
        """Says ``why`` once: it is tried again for as long as the device runs."""
        if why != self._told:
            sys.stderr.write(f"edge-agent: the certificate was not renewed: {why}\n")
        self._told = why

    def _keep(self, issued: Issued) -> bool:
        """Whether it is used from now on: only once it is kept."""
        try:
            self._kept.keep(issued)
            identity = self._kept.load()
        except (OSError, EdgeError) as error:
            sys.stderr.write(f"edge-agent: the new certificate cannot be kept: {error}\n")
            return False
        if identity is not None:
            self._link.use(identity)
        return identity is not None
