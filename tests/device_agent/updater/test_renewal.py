"""When a certificate is renewed: told by the distributor, by its dates, or when nobody answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from device_agent.fleet_link import CheckedIn, FleetLink
from device_agent.identity import KeptIdentity
from device_agent.store import Store
from device_agent.updater.loop import Loop
from device_agent.updater.renewal import Renewal
from edge_sdk.base import TrustError, UnavailableError
from edge_sdk.identity import Identity, Issued
from tests.device_agent.identity.test_kept import TOKEN, _issued

pytestmark = pytest.mark.distributor
HOUR_S = 3600.0


class Peer:
    """A link whose renewals are noted and answered."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.asked: list[str] = []
        self.answer: Callable[[], Issued] = lambda: _issued(self.identity.key)

    def renew(self, *, expired: bool) -> Issued:
        self.asked.append("expired" if expired else "renew")
        return self.answer()

    def use(self, identity: Identity) -> None:
        self.identity = identity


class DirectLoop:
    """Background work is done at once."""

    def background(self, work: Callable[[], Any], then: Callable[[Any, Any], None]) -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - as the real loop does
            then(None, error)
        else:
            then(result, None)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Store, Peer]]:
    store = Store.create(tmp_path)
    own = KeptIdentity(store)
    own.keep(_issued(own.begin(TOKEN, "gate-7")))
    identity = own.load()
    assert identity is not None
    yield store, Peer(identity)


def _renewal(store: Store, peer: Peer, now_s: float) -> Renewal:
    return Renewal(cast(Loop, DirectLoop()), cast(FleetLink, peer), store, now_s=lambda: now_s)


def _answer(*, renew: bool = False) -> CheckedIn:
    return CheckedIn(assignment=None, next_check_in_s=1.0, renew_certificate=renew)


def test_told_by_the_distributor(kept: tuple[Store, Peer]) -> None:
    """A device whose clock stands at 1970 renews when it is told to, and keeps what it gets."""
    store, peer = kept
    before = peer.identity.facts.serial
    renewal = _renewal(store, peer, 0.0)
    renewal.answered(_answer())
    assert peer.asked == []
    renewal.answered(_answer(renew=True))
    assert peer.asked == ["renew"]
    assert peer.identity.facts.serial != before
    loaded = KeptIdentity(store).load()
    assert loaded is not None
    assert loaded.facts.serial == peer.identity.facts.serial


def test_by_its_dates(kept: tuple[Store, Peer]) -> None:
    """At two thirds of its life it is renewed; over, before the next call is even tried."""
    store, peer = kept
    going: list[str] = []
    now_s = time.time()
    renewal = _renewal(store, peer, now_s)
    renewal.answered(_answer())
    assert not renewal.first(lambda: going.append("now"))
    _renewal(store, peer, now_s + 0.8 * HOUR_S).answered(_answer())
    assert peer.asked == ["renew"]
    assert _renewal(store, peer, now_s + 2 * HOUR_S).first(lambda: going.append("then"))
    assert peer.asked == ["renew", "expired"]
    assert going == ["then"]


def test_a_renewal_that_fails(kept: tuple[Store, Peer], capsys: pytest.CaptureFixture[str]) -> None:
    """The call is made all the same, with what there is, and the reason is said."""
    store, peer = kept
    before = peer.identity

    def refuse() -> Issued:
        raise TrustError("this key is refused: stolen")

    peer.answer = refuse
    going: list[str] = []
    assert _renewal(store, peer, time.time() + 2 * HOUR_S).first(lambda: going.append("go"))
    assert going == ["go"]
    assert peer.identity is before
    assert "stolen" in capsys.readouterr().err


def test_a_reason_is_said_once(
    kept: tuple[Store, Peer], capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that was thrown out tries for ever, and does not fill its log with that; after a
    renewal that succeeded the same reason is news again."""
    store, peer = kept
    given = peer.answer

    def refuse() -> Issued:
        raise TrustError("this key is refused: stolen")

    renewal = _renewal(store, peer, time.time() + 2 * HOUR_S)
    peer.answer = refuse
    for _ in range(3):
        assert renewal.first(lambda: None)
    assert capsys.readouterr().err.count("stolen") == 1
    peer.answer = given
    renewal.answered(_answer(renew=True))
    peer.answer = refuse
    renewal.answered(_answer(renew=True))
    assert capsys.readouterr().err.count("stolen") == 1


def test_when_nobody_answers(kept: tuple[Store, Peer]) -> None:
    """A handshake that fails says nothing of the reason: after three in a row, or with a clock
    that is certainly wrong, or when refused, the enrolment service is asked."""
    store, peer = kept
    again: list[str] = []
    renewal = _renewal(store, peer, time.time())
    away = UnavailableError("Socket closed")
    for failures in (1, 2):
        renewal.failed(away, failures, then=lambda: again.append("again"))
    assert peer.asked == []
    renewal.failed(away, 3, then=lambda: again.append("again"))
    assert peer.asked == ["expired"]
    assert again == ["again"]
    renewal.failed(TrustError("not valid at this time"), 1, then=lambda: again.append("b"))
    _renewal(store, peer, 0.0).failed(away, 1, then=lambda: again.append("c"))
    assert again == ["again", "b", "c"]


def test_marks_follow_the_answers(kept: tuple[Store, Peer]) -> None:
    """A check-in that was answered is followed by a fresh mark, one that failed is repeated."""
    store, peer = kept
    renewal = _renewal(store, peer, time.time())
    first = renewal.marks()
    renewal.failed(UnavailableError("away"), 1, then=lambda: None)
    assert renewal.marks() == first
    renewal.answered(_answer())
    assert renewal.marks()[0] == first[1]
