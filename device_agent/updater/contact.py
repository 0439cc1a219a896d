"""Keeps in touch with the distributor: check-ins, the watch, reports. Decides nothing.

Whatever fails is tried again after a back-off with full jitter; the device serves meanwhile.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from device_agent.fleet_link import Capabilities, CheckedIn, FleetLink, ModelState
from device_agent.records import NoContact
from device_agent.updater.loop import Loop, Timer
from device_agent.updater.no_contact import no_contact
from device_agent.updater.renewal import Renewal
from device_agent.updater.report import EventLog
from edge_sdk.base import Digest, EdgeError, RefusedError, TrustError, UnavailableError
from edge_sdk.rpc.backoff import Backoff

_JITTER = 0.2  # of the time to the next check-in, so that a fleet does not come in step
_NEXT_S_MIN = 1.0  # whatever the distributor asks for
_NEXT_S_MAX = 86_400.0
_WAKE_PAUSE_S = 0.2  # between two wake-ups: meanwhile the stream is held back
_RECONNECT_S_MIN, _RECONNECT_S_MAX = 0.05, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a check-in says."""

    capabilities: Capabilities
    held: tuple[Digest, ...]
    models: tuple[ModelState, ...]
    assignment_counter: int
    disk_free_bytes: int


class Contact:
    """Lives on the loop's thread; only the watch has one of its own.

    ``on_assignment(document, done)`` is called for each answer that brings one, and calls
    ``done`` once that was taken up or refused; ``on_reached``
    whenever the distributor is there again after it was not.
    """

    def __init__(
        self,
        loop: Loop,
        link: FleetLink,
        log: EventLog,
        *,
        device: str,
        check_in_s: float,
        labels: dict[str, str],
        backoff: Backoff,
        watch: bool,
        describe: Callable[[], Description],
        on_assignment: Callable[[bytes, Callable[[EdgeError | None], None]], None],
        on_reached: Callable[[], None],
        say_again: Callable[[], None],
        renewal: Renewal,
    ) -> None:
        self.connected = False
        self._was_reached = False
        self._failed: NoContact | None = None
        self._renewal = renewal
        self._loop = loop
        self._link = link
        self._log = log
        self._device = device
        self._check_in_s = check_in_s
        self._labels = labels
        self._backoff = backoff
        self._describe = describe
        self._on_assignment = on_assignment
        self._on_reached = on_reached
        self._say_again = say_again
        self._failures = 0
        self._report_failures = 0
        self._checking_in = False
        self._again = False
        self._reporting = False
        self._report_timer: Timer | None = None
        self._timer: Timer | None = None
        self._waiting: list[Callable[[EdgeError | None], None]] = []
        self._closed = threading.Event()
        self._counter = 0
        if watch:
            threading.Thread(target=self._watch, name="updater-watch", daemon=True).start()

    @property
    def no_contact(self) -> NoContact | None:
        """Why it is not connected. A handshake that fails does not say why: what was answered to
        the attempt to renew says more."""
        if self._failed is not None and not self._failed.refused and self._renewal.refused:
            self._failed = self._why(self._renewal.refused)
        return self._failed

    def _why(self, error: EdgeError) -> NoContact:
        now_ms = int(time.time() * 1000)
        return no_contact(error, self._failed, device=self._device, now_ms=now_ms)

    def close(self) -> None:
        self._closed.set()
        self._link.close()

    # -- check-in ------------------------------------------------------------------------

    def check_in(self, then: Callable[[EdgeError | None], None] | None = None) -> None:
        """Now; ``then`` is told how it went, once what it brought was taken up."""
        if then is not None:
            self._waiting.append(then)
        if self._checking_in:
            self._again = True  # the one in progress may have been answered before the change
            return
        self._checking_in = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._renewal.first(self._send_check_in):
            self._send_check_in()

    def _send_check_in(self) -> None:
        said = self._describe()
        marks = self._renewal.marks()
        self._counter = said.assignment_counter
        waiting, self._waiting = self._waiting, []
        self._loop.background(
            lambda: self._link.check_in(
                capabilities=said.capabilities,
                held=said.held,
                models=said.models,
                assignment_counter=said.assignment_counter,
                disk_free_bytes=said.disk_free_bytes,
                labels=self._labels,
                marks=marks,
            ),
            lambda answer, error: self._checked_in(answer, error, waiting),
        )

    def _checked_in(
        self,
        answer: CheckedIn | None,
        error: Exception | None,
        waiting: list[Callable[[EdgeError | None], None]],
    ) -> None:
        self._checking_in = False
        failed: EdgeError | None = None
        if answer is None:
            failed = _typed(error)
            self.connected = False
            self._failures += 1
            answered = isinstance(failed, TrustError | RefusedError)
            self._failed = self._why(failed if answered else self._renewal.refused or failed)
            chance = random.random()  # noqa: S311 - jitter
            delay_s = self._backoff.delay_s(self._failures, chance, after=failed)
            self._renewal.failed(failed, self._failures, then=self.check_in)
        else:
            self._failures = 0
            self._failed = None
            self._renewal.answered(answer)
            delay_s = self._next_s(answer.next_check_in_s)
            self._reached()
        self._tell(answer, failed, waiting)
        if self._again or self._waiting:
            self._again = False
            self.check_in()
        else:
            self._timer = self._loop.later(delay_s, self.check_in)

    def _tell(
        self,
        answer: CheckedIn | None,
        failed: EdgeError | None,
        waiting: list[Callable[[EdgeError | None], None]],
    ) -> None:
        def tell(error: EdgeError | None) -> None:
            for then in waiting:
                then(error)

        if answer is not None and answer.assignment is not None:
            self._on_assignment(answer.assignment, tell)
        else:
            tell(failed)

    def _next_s(self, asked_s: float) -> float:
        base_s = self._check_in_s
        if asked_s > 0:
            base_s = min(max(asked_s, _NEXT_S_MIN), _NEXT_S_MAX)
        return min(base_s, self._check_in_s) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311

    def _reached(self) -> None:
        if not self.connected:
            self.connected = True
            if not self._was_reached:  # from now on operators can name it
                sys.stderr.write(f"edge-agent: {self._device} checked in with the distributor\n")
                self._was_reached = True
            self._on_reached()
        self.report()

    # -- report --------------------------------------------------------------------------

    def report(self) -> None:
        """Sends what is not acknowledged yet, batch after batch."""
        if self._reporting:
            return
        notes = self._log.unacknowledged()
        if not notes:
            return
        self._reporting = True
        if self._report_timer is not None:
            self._report_timer.cancel()
        first = notes[0].number
        self._loop.background(
            lambda: self._link.report(notes),
            lambda acknowledged, error: self._reported(first, acknowledged, error),
        )

    def _reported(
        self, first: int, acknowledged: int | None, error: Exception | None = None
    ) -> None:
        """``first``: the number of the first event that was sent."""
        self._reporting = False
        known = acknowledged is not None and self._log.acknowledged(acknowledged)
        if acknowledged is not None and not known:
            self._say_again()
        waiting = self._log.unacknowledged()
        if known and (not waiting or waiting[0].number > first):
            self._report_failures = 0
            self.report()
            return
        # An answer that leads nowhere is no better than none.
        self._report_failures += 1
        chance = random.random()  # noqa: S311 - jitter
        delay_s = self._backoff.delay_s(self._report_failures, chance, after=error)
        self._report_timer = self._loop.later(delay_s, self.report)

    # -- watch ---------------------------------------------------------------------------

    def _watch(self) -> None:
        failures = 0
        while not self._closed.is_set():
            wait_s: float | None = None
            failed: Exception | None = None
            try:
                for woken in self._link.watch(self._counter):
                    failures = 0
                    wait_s = woken.reconnect_s
                    if wait_s is None:
                        self._loop.put(self.check_in)
                    if self._closed.wait(_WAKE_PAUSE_S):
                        return
            except Exception as error:  # noqa: BLE001 - whatever a peer sends, the watch goes on
                failures += 1
                failed = error
            if wait_s is None or not math.isfinite(wait_s):
                chance = random.random()  # noqa: S311 - jitter
                wait_s = self._backoff.delay_s(failures, chance, after=failed)
            if self._closed.wait(min(max(wait_s, _RECONNECT_S_MIN), _RECONNECT_S_MAX)):
                return
            # Whatever changed while nobody watched is found out by asking.
            self._loop.put(self.check_in)


def _typed(error: Exception | None) -> EdgeError:
    if isinstance(error, EdgeError):
        return error
    return UnavailableError(f"{type(error).__name__}: {error}")
