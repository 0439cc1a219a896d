"""Keeping in touch with a distributor that lies or floods: never without pause."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from device_agent.fleet_link import Capabilities, CheckedIn, FleetLink, Woken
from device_agent.records import NoContact
from device_agent.store import Store
from device_agent.store.filesystem import FileSystem
from device_agent.store.journal import Journal
from device_agent.updater.contact import Contact, Description
from device_agent.updater.lifecycle import State
from device_agent.updater.loop import Loop
from device_agent.updater.renewal import Renewal
from device_agent.updater.report import EventLog
from device_agent.updater.update import Update
from edge_sdk.base import (
    BusyError,
    Digest,
    EdgeError,
    RefusedError,
    UnauthenticatedError,
    UnavailableError,
)
from edge_sdk.rpc.backoff import Backoff
from tests.support.processes import wait_for

OWN = Capabilities(
    delta_versions=(0,),
    delta_methods=(),
    decoder_memory_bytes=1,
    engines=(),
    architecture="",
    memory_bytes=0,
    accelerators=(),
    agent_version="1",
)


class Peer:
    """A distributor as a test wants it; counts what it is asked."""

    identity = None  # nobody asks for a certificate here

    def __init__(self) -> None:
        self.next_s = 3600.0
        self.acknowledge: Callable[[int], int] = lambda last: last
        self.wake: Callable[[], Iterator[Woken]] = lambda: iter(())
        self.on_check_in: Callable[[], object] = lambda: None
        self.check_ins = self.reports = self.watches = 0
        self.closed = threading.Event()

    def check_in(self, **_: Any) -> CheckedIn:
        self.check_ins += 1
        self.on_check_in()
        return CheckedIn(assignment=None, next_check_in_s=self.next_s)

    def report(self, notes: Any) -> int:
        self.reports += 1
        return self.acknowledge(notes[-1].number)

    def watch(self, _counter: int) -> Iterator[Woken]:
        self.watches += 1
        yield from self.wake()
        self.closed.wait(20)

    def close(self) -> None:
        self.closed.set()


class Touch:
    """A contact on a running loop."""

    def __init__(self, folder: Path) -> None:
        self.peer = Peer()
        self.store = Store(folder / "state")
        self.journal = Journal(FileSystem(), folder / "journal")
        self.log = EventLog(self.journal, lambda call: call())
        self.loop = Loop()
        self.said_again = 0
        self._contact: Contact | None = None
        self._thread = threading.Thread(target=self.loop.run, daemon=True)

    def start(self, *, watch: bool = False, base_s: float = 1e9) -> None:
        """The back-off has full jitter, down to 0 s: with this base none is over in a test."""
        self._thread.start()
        self.loop.ask(lambda: self._begin(watch, base_s))

    def _begin(self, watch: bool, base_s: float) -> None:
        self._contact = Contact(
            self.loop,
            cast(FleetLink, self.peer),
            self.log,
            device="gate-7",
            check_in_s=900.0,
            labels={},
            backoff=Backoff(base_s=base_s, cap_s=base_s),
            watch=watch,
            describe=lambda: Description(
                capabilities=OWN, held=(), models=(), assignment_counter=0, disk_free_bytes=0
            ),
            on_assignment=lambda document: None,
            on_reached=lambda: None,
            say_again=self._say_again,
            renewal=Renewal(self.loop, cast(FleetLink, self.peer), self.store),
        )
        self._contact.check_in()

    def _say_again(self) -> None:
        self.said_again += 1
        self.log.enter(update(), "said_again")

    def check_in(self) -> None:
        contact = self._contact
        assert contact is not None
        self.loop.ask(contact.check_in)

    def no_contact(self) -> NoContact | None:
        contact = self._contact
        assert contact is not None
        return self.loop.ask(lambda: contact.no_contact)

    def stop(self) -> None:
        if self._contact is not None:
            self._contact.close()
        self.loop.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()


def update() -> Update:
    return Update(
        model="team/digits",
        artifact=Digest.of(b"a"),
        version="1.0.0",
        variant="v",
        rollout="",
        attempt=1,
        kind="update",
        state=State.COMMITTED,
    )


@pytest.fixture
def touch(tmp_path: Path) -> Iterator[Touch]:
    one = Touch(tmp_path)
    yield one
    one.stop()


@pytest.mark.parametrize("answer", [0, 2**40, 2**64 - 1])
def test_answers_to_reports_that_lead_nowhere_are_not_asked_for_without_pause(
    touch: Touch, answer: int
) -> None:
    """Nothing acknowledged, or more than ever was said: the next report waits its back-off."""
    touch.log.enter(update(), "assigned")
    touch.peer.acknowledge = lambda last: answer
    touch.start()
    wait_for(lambda: touch.peer.reports, "a report")
    threading.Event().wait(0.3)
    touch.loop.ask(lambda: None)
    assert touch.peer.reports == 1
    assert touch.said_again <= 1


def test_a_busy_distributor_is_left_alone_as_long_as_it_asks(touch: Touch) -> None:
    """Check-ins, reports and the watch come back when it said, not after the back-off alone."""
    touch.log.enter(update(), "assigned")
    busy = BusyError("busy", retry_after_s="600")

    def refuse(*_: object) -> NoReturn:
        raise busy

    touch.peer.wake = refuse
    touch.peer.on_check_in = refuse
    touch.start(watch=True, base_s=1e-6)
    wait_for(lambda: touch.peer.watches and touch.peer.check_ins, "a watch and a check-in")
    threading.Event().wait(0.3)
    assert (touch.peer.watches, touch.peer.check_ins) == (1, 1)
    touch.peer.on_check_in = lambda: None
    touch.peer.acknowledge = refuse
    touch.check_in()
    wait_for(lambda: touch.peer.reports, "a report")
    threading.Event().wait(0.3)
    assert touch.peer.reports == 1


def test_batches_follow_each_other_at_once(touch: Touch) -> None:
    """What is acknowledged in order needs no pause."""
    for _ in range(450):
        touch.log.enter(update(), "assigned")
    touch.start()
    wait_for(lambda: touch.journal.acknowledged == 450, "all to be acknowledged")
    assert touch.peer.reports == 3


def test_a_tiny_interval_is_no_reason_to_ask_without_pause(touch: Touch) -> None:
    """The distributor may ask for more check-ins, not for hundreds a second."""
    touch.peer.next_s = 1e-9
    began_s = time.monotonic()
    touch.start()
    wait_for(lambda: touch.peer.check_ins, "a check-in")
    threading.Event().wait(0.3)
    check_ins = touch.peer.check_ins
    assert check_ins <= 1 + (time.monotonic() - began_s) / 0.8


def test_a_flood_of_wake_ups_is_held_back(touch: Touch) -> None:
    """The stream is read slowly, so that neither queue nor check-ins pile up."""
    given = []

    def flood() -> Iterator[Woken]:
        while not touch.peer.closed.is_set():
            given.append(1)
            yield Woken(assignment_counter=1, reconnect_s=None)

    touch.peer.wake = flood
    began_s = time.monotonic()
    touch.start(watch=True)
    wait_for(lambda: given, "the flood")
    threading.Event().wait(0.5)
    came, check_ins = len(given), touch.peer.check_ins
    most = 1 + (time.monotonic() - began_s) / 0.2
    assert came <= most
    assert check_ins <= 1 + most  # the first is nobody's wake-up


@pytest.mark.parametrize("asked_s", [math.nan, math.inf, -math.inf, 1e300, -5.0, 0.0])
def test_an_impossible_time_to_come_back_does_not_end_the_watch(
    touch: Touch, asked_s: float
) -> None:
    """Whatever a goodbye says, the device watches on (an hour later at most)."""
    touch.peer.wake = lambda: iter([Woken(assignment_counter=1, reconnect_s=asked_s)])
    touch.start(watch=True)
    touch.peer.closed.set()  # each stream ends at once
    threads = [one for one in threading.enumerate() if one.name == "updater-watch"]
    wait_for(lambda: touch.peer.watches, "the first watch")
    threading.Event().wait(0.4)
    assert [one for one in threads if one.is_alive()]


def test_an_error_of_any_kind_does_not_end_the_watch(touch: Touch) -> None:
    """Details of a status that make no sense here are the peer's defect, not the end."""

    def odd() -> Iterator[Woken]:
        raise TypeError("got multiple values for argument 'message'")
        yield

    touch.peer.wake = odd
    touch.start(watch=True, base_s=0.01)
    wait_for(lambda: touch.peer.watches > 2, "another watch")


def test_why_there_is_no_contact(touch: Touch, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused or not reached, since when and what to do; refused once, the same refusal goes on
    since then; after an answer nothing is said. The first answer is told, and no later one."""

    def fail(error: EdgeError) -> NoContact:
        def raising() -> NoReturn:
            raise error

        touch.peer.on_check_in = raising
        touch.check_in()
        wait_for(
            lambda: (said := touch.no_contact()) is not None and said.message == error.message,
            "the check-in to fail",
        )
        said = touch.no_contact()
        assert said is not None
        return said

    touch.start()
    wait_for(lambda: touch.peer.check_ins == 1, "the first check-in")
    assert touch.no_contact() is None
    away = fail(UnavailableError("nobody is there"))
    assert (away.reason, away.refused) == ("UnavailableError", False)
    assert "tried again by itself" in away.remedy
    first = fail(UnauthenticatedError("this certificate is refused: stolen"))
    assert (first.reason, first.refused) == ("UnauthenticatedError", True)
    assert "devices token create --name gate-7" in first.remedy
    again = fail(UnauthenticatedError("this certificate is refused: lost"))
    assert again.since_ms == first.since_ms
    assert "ask who runs" in fail(RefusedError("too many devices")).remedy
    touch.peer.on_check_in = lambda: None
    touch.check_in()
    wait_for(lambda: touch.no_contact() is None, "an answer")
    assert capsys.readouterr().err == "edge-agent: gate-7 checked in with the distributor\n"
