"""An operator's machine notices what a distributor, or who owns it, does to the log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_sdk.audit import VerifierKey, open_note
from edge_sdk.base import TrustError
from edge_sdk.fleet import Fleet
from edge_sdk.fleet.home import FleetHome
from tests.support.audit_logs import ORIGIN, Notary, head_of, log

if TYPE_CHECKING:
    from tests.support.audit_server import AuditServer

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the distributor needs 3.11")

FIVE = log(5)


@pytest.fixture
def server() -> Iterator[AuditServer]:
    from tests.support.audit_server import AuditServer

    with AuditServer() as one:
        yield one


@pytest.fixture
def fleet(server: AuditServer, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(server.address, operator="ada", home=FleetHome(root=tmp_path / "home")) as one:
        yield one


def test_a_log_that_grows_holds(server: AuditServer, fleet: Fleet) -> None:
    """Seen first, then longer: the second time it is compared with the first."""
    server.show(FIVE[:3])
    first = fleet.audit.verify()
    assert (first.compared.kept, first.known) == (None, False)
    server.show(FIVE)
    again = fleet.audit.verify()
    assert again.known
    assert again.compared.kept == head_of(FIVE[:3])
    assert [one.number for one in fleet.audit.entries()] == [1, 2, 3, 4, 5]


def test_an_empty_log_holds(server: AuditServer, fleet: Fleet) -> None:
    """A distributor where nothing happened yet has a head, too."""
    server.show([])
    assert fleet.audit.verify().compared.head.size == 0


def test_a_cut_off_end(server: AuditServer, fleet: Fleet) -> None:
    """Entries gone from the end, and the rest signed anew by the true key: noticed."""
    server.show(FIVE)
    fleet.audit.verify()
    server.show(FIVE[:4])
    with pytest.raises(TrustError, match="its end was cut off"):
        fleet.audit.verify()


def test_a_rewritten_history(server: AuditServer, fleet: Fleet) -> None:
    """Another past, longer and signed by the true key: noticed."""
    server.show(FIVE)
    fleet.audit.verify()
    server.show(log(9, actor="mallory"))
    with pytest.raises(TrustError, match="history was rewritten"):
        fleet.audit.verify()


def test_a_refused_log_is_not_kept(server: AuditServer, fleet: Fleet) -> None:
    """What was seen last stays the measure until a log holds against it."""
    server.show(FIVE)
    fleet.audit.verify()
    server.show(FIVE[:4])
    for _ in range(2):
        with pytest.raises(TrustError):
            fleet.audit.verify()
    server.show(FIVE)
    assert fleet.audit.verify().compared.kept == head_of(FIVE)


def test_another_key(server: AuditServer, fleet: Fleet) -> None:
    """A distributor that signs with another key than before is not believed; its word for a
    new key is worth nothing."""
    server.show(FIVE)
    fleet.audit.verify()
    server.notary = Notary()
    server.show(FIVE)
    with pytest.raises(TrustError, match="audit key was replaced"):
        fleet.audit.verify()


def test_a_key_from_elsewhere_at_first_sight(server: AuditServer, fleet: Fleet) -> None:
    """Who has the key from a person needs to believe nobody, not even the first time."""
    server.show(FIVE)
    assert fleet.audit.verify(server.notary.key).known
    with pytest.raises(TrustError):
        fleet.audit.verify(Notary().key)


def test_entries_that_the_head_does_not_cover(server: AuditServer, fleet: Fleet) -> None:
    """Fewer or other entries than were signed: noticed without any earlier head."""
    server.show(FIVE)
    server.documents = FIVE[:4]
    with pytest.raises(TrustError, match="its end was cut off"):
        fleet.audit.verify()
    server.documents = log(5, actor="mallory")
    with pytest.raises(TrustError, match="rewritten"):
        fleet.audit.verify()


def test_an_earlier_head_that_disagrees(server: AuditServer, fleet: Fleet) -> None:
    """Whatever was once signed must be a point of the log; heads of other keys do not count."""
    server.show(FIVE)
    server.earlier = [Notary().note(head_of(log(2, actor="eve"))), "nonsense"]
    fleet.audit.verify()
    server.earlier = [server.notary.note(head_of(log(2, actor="eve")))]
    with pytest.raises(TrustError, match="signed head at entry 2"):
        fleet.audit.verify()


def test_a_note_kept_elsewhere(server: AuditServer, fleet: Fleet) -> None:
    """Also without this machine's memory; older than what it saw, it still has to agree."""
    server.show(FIVE)
    note = fleet.audit.head().note
    other = server.notary.note(head_of(log(2, actor="eve")))
    server.show(FIVE[:3])
    with pytest.raises(TrustError, match="cut off"):
        fleet.audit.verify(kept_note=note)
    server.show(FIVE)
    fleet.audit.verify(kept_note=note)
    with pytest.raises(TrustError, match="signed head at entry 2"):
        fleet.audit.verify(kept_note=other)
    with pytest.raises(TrustError, match="cannot be compared"):
        fleet.audit.verify(kept_note=Notary().note(head_of(FIVE)))


def test_a_distributor_without_a_key(server: AuditServer, fleet: Fleet) -> None:
    """Nonsense instead of a key is a failed proof."""
    server.show(FIVE)
    server.named_key = "nonsense"
    with pytest.raises(TrustError, match="names no key"):
        fleet.audit.verify()


def test_the_head_alone(server: AuditServer, fleet: Fleet) -> None:
    """It is what the key signed; asking for it keeps nothing."""
    server.show(FIVE)
    signed = fleet.audit.head()
    assert open_note(signed.note, VerifierKey.parse(str(signed.key))) == signed.head
    assert signed.head.origin == ORIGIN
    assert fleet.audit.head().known is False
