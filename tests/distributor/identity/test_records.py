"""Who is let in, who waits, who is refused: by the rows alone, at times of the test's choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributor import identity
from distributor.identity import IdentityRecord, Mark, PendingMax, State, Vouched
from edge_sdk.base import ConflictError, NotFoundError, RefusedError, TrustError, UsageError
from edge_sdk.identity import CertificateFacts, RequestFacts, secret_hash
from tests.support.catalog import Catalog, open_catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path) as one:
        yield one


def request(name: str = "gate-7", key: str = "a") -> RequestFacts:
    return RequestFacts(kind="device", name=name, key=key * 64, der=b"")


def certificate(name: str = "gate-7", key: str = "a") -> CertificateFacts:
    return CertificateFacts(
        kind="device",
        name=name,
        serial="1",
        key=key * 64,
        authority="",
        not_before_s=0.0,
        not_after_s=1.0,
    )


def token(catalog: Catalog, **wanted: Any) -> Vouched:
    asked = {
        "kind": "device",
        "name": "",
        "uses": 1,
        "approval": False,
        "expires_ms": 1000,
        "created_by": "ann",
        "at_ms": 0,
        **wanted,
    }
    secret, _ = catalog.write(identity.create_token, **asked)
    return Vouched(secret_hash=secret_hash(bytes.fromhex(secret)))


def admit(
    catalog: Catalog, asked: RequestFacts, vouched: Vouched, at_ms: int = 10
) -> IdentityRecord:
    found: IdentityRecord = catalog.write(identity.admit, asked, vouched, at_ms=at_ms)
    return found


def wait_as(catalog: Catalog, number: int, vouched: Vouched, **most: int) -> IdentityRecord:
    asked = request(f"gate-{number}", key=f"{number:x}")
    limits = PendingMax(**most)
    found: IdentityRecord = catalog.write(
        identity.admit, asked, vouched, at_ms=10, pending_max=limits
    )
    return found


def test_a_factory_certificate_waits_under_one_name(catalog: Catalog) -> None:
    """Another name is refused, and the message says under which it waits; asking again is no
    other name, and once that one was decided the next may wait."""
    factory = Vouched(factory_serial="SN-1")
    assert wait_as(catalog, 1, factory).state is State.PENDING
    assert wait_as(catalog, 1, factory).state is State.PENDING
    with pytest.raises(RefusedError, match="waits already as gate-1: an operator"):
        wait_as(catalog, 2, factory)
    assert wait_as(catalog, 2, Vouched(factory_serial="SN-2")).state is State.PENDING
    catalog.write(identity.approve, "device", "gate-1", factory_serial="", at_ms=11)
    assert wait_as(catalog, 3, factory).state is State.PENDING
    assert wait_as(catalog, 4, factory, of_one_factory_certificate=2).state is State.PENDING
    names = [one.name for one in catalog.read(identity.list_identities, state="pending")]
    assert names == ["gate-2", "gate-3", "gate-4"]


def test_two_factory_certificates_wait_under_two_names(catalog: Catalog) -> None:
    """A wait counts for the certificate that it began with: neither another one, nor a token,
    takes it over and so frees the first."""
    first, second = Vouched(factory_serial="SN-1"), Vouched(factory_serial="SN-2")
    waits = token(catalog, uses=9, approval=True)
    wait_as(catalog, 1, first)
    with pytest.raises(TrustError, match="gate-1 waits already by another factory"):
        wait_as(catalog, 1, second)
    assert wait_as(catalog, 1, waits).factory_serial == "SN-1"
    with pytest.raises(RefusedError, match="waits already as gate-1"):
        wait_as(catalog, 2, first)
    assert wait_as(catalog, 2, waits).factory_serial == ""
    with pytest.raises(RefusedError, match="waits already as gate-1"):
        wait_as(catalog, 2, first)
    assert wait_as(catalog, 2, second).factory_serial == "SN-2"
    with pytest.raises(RefusedError, match="waits already as gate-2"):
        wait_as(catalog, 3, second)
    assert wait_as(catalog, 1, token(catalog)).state is State.ACTIVE
    assert wait_as(catalog, 3, first).state is State.PENDING


def test_only_so_many_wait(catalog: Catalog) -> None:
    """Whatever they show; who needs no approval, or was expected, comes in all the same."""
    waits = token(catalog, uses=9, approval=True)
    for number in (1, 2):
        assert wait_as(catalog, number, waits, in_all=2).state is State.PENDING
    for vouched in (waits, Vouched(factory_serial="SN-1")):
        with pytest.raises(RefusedError, match="2 wait for approval already"):
            wait_as(catalog, 3, vouched, in_all=2)
    assert wait_as(catalog, 4, token(catalog), in_all=2).state is State.ACTIVE
    catalog.write(identity.approve, "device", "gate-5", factory_serial="SN-1", at_ms=11)
    assert wait_as(catalog, 5, Vouched(factory_serial="SN-1"), in_all=2).state is State.ACTIVE
    catalog.write(identity.revoke, "device", "gate-1", "", at_ms=12)
    assert wait_as(catalog, 3, waits, in_all=2).state is State.PENDING


def test_the_secret_is_not_kept(catalog: Catalog, tmp_path: Path) -> None:
    """Nothing in the catalog's files shows a token's secret."""
    secret, record = catalog.write(
        identity.create_token,
        kind="device", name="", uses=1, approval=False, expires_ms=1, created_by="a", at_ms=0,
    )  # fmt: skip
    for file in tmp_path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert secret.encode() not in data
            assert bytes.fromhex(secret) not in data
    assert record.token == secret_hash(bytes.fromhex(secret))[:12]


def test_a_token_is_bound_to_a_key(catalog: Catalog) -> None:
    """The first key may ask again and again, also after the token's end; no other key may."""
    vouched = token(catalog)
    assert admit(catalog, request(), vouched).state is State.ACTIVE
    assert admit(catalog, request(), vouched, at_ms=5000).state is State.ACTIVE
    with pytest.raises(TrustError, match="other keys"):
        admit(catalog, request("gate-8", "b"), vouched)
    assert catalog.read(identity.find_identity, "device", "gate-8") is None


def test_tokens_that_end(catalog: Catalog) -> None:
    """Unknown, revoked, expired, for another name or kind: each is refused, and binds nothing."""
    with pytest.raises(TrustError, match="not known"):
        admit(catalog, request(), Vouched(secret_hash="0" * 64))
    with pytest.raises(RefusedError, match="expired"):
        admit(catalog, request(), token(catalog), at_ms=1000)
    with pytest.raises(TrustError, match="not for"):
        admit(catalog, request(), token(catalog, name="gate-8"))
    with pytest.raises(TrustError, match="not for"):
        admit(catalog, request(), token(catalog, kind="operator"))
    vouched = token(catalog)
    (newest, *_) = catalog.read(identity.list_tokens)
    gone = [one for one in catalog.read(identity.list_tokens) if not one.used_by]
    assert newest in gone
    for one in gone:
        catalog.write(identity.revoke_token, one.token)
    with pytest.raises(TrustError, match="revoked"):
        admit(catalog, request(), vouched)
    with pytest.raises(UsageError):
        token(catalog, uses=0)
    with pytest.raises(UsageError):
        token(catalog, uses=2, name="gate-7")


def test_a_name_that_is_taken(catalog: Catalog) -> None:
    """Another key gets it only by a token made for the name; the key before is refused then."""
    admit(catalog, request(), token(catalog))
    with pytest.raises(ConflictError, match="--name gate-7"):
        admit(catalog, request(key="b"), token(catalog, uses=5))
    assert admit(catalog, request(key="b"), token(catalog, name="gate-7")).key == "b" * 64
    assert {one.key for one in catalog.read(identity.refused)} == {"a" * 64}
    with pytest.raises(TrustError, match="refused"):
        admit(catalog, request(), token(catalog, name="gate-7"))


def test_waiting_and_being_awaited(catalog: Catalog) -> None:
    """With such a token a newcomer waits; one approved beforehand does not. A device with a
    factory certificate always waits, unless its serial number is awaited."""
    waits = token(catalog, approval=True, uses=3)
    assert admit(catalog, request(), waits).state is State.PENDING
    assert admit(catalog, request(), waits).state is State.PENDING
    approve = identity.approve
    assert catalog.write(approve, "device", "gate-7", factory_serial="", at_ms=1).state == "active"
    assert admit(catalog, request(), waits).state is State.ACTIVE
    catalog.write(approve, "device", "gate-8", factory_serial="SN-8", at_ms=1)
    with pytest.raises(TrustError, match="another factory serial"):
        admit(catalog, request("gate-8", "b"), Vouched(factory_serial="SN-9"))
    with pytest.raises(TrustError, match="another factory serial"):
        admit(catalog, request("gate-8", "b"), waits)
    assert admit(catalog, request("gate-8", "b"), Vouched(factory_serial="SN-8")).state == "active"
    assert admit(catalog, request("gate-9", "c"), Vouched(factory_serial="SN-9")).state == "pending"


def test_revoking(catalog: Catalog) -> None:
    """A revoked one neither renews nor comes back with its key, and is not approved again."""
    admit(catalog, request(), token(catalog))
    catalog.write(identity.check_renewal, certificate(), request(), at_ms=20)
    assert catalog.write(identity.revoke, "device", "gate-7", "", at_ms=30).state is State.REVOKED
    for act in (
        lambda: admit(catalog, request(), token(catalog)),
        lambda: catalog.write(identity.check_renewal, certificate(), request(), at_ms=40),
    ):
        with pytest.raises(TrustError):
            act()
    with pytest.raises(RefusedError, match="token create"):
        catalog.write(identity.approve, "device", "gate-7", factory_serial="", at_ms=50)
    with pytest.raises(NotFoundError):
        catalog.write(identity.revoke, "device", "gate-99", "", at_ms=50)
    # Awaited and then revoked, before it ever came: only a token for the name brings it in.
    catalog.write(identity.approve, "device", "gate-8", factory_serial="", at_ms=1)
    catalog.write(identity.revoke, "device", "gate-8", "", at_ms=2)
    with pytest.raises(ConflictError):
        admit(catalog, request("gate-8", "b"), token(catalog))


def test_renewing_is_for_the_same_name_and_key(catalog: Catalog) -> None:
    """Anything else is a new enrolment."""
    admit(catalog, request(), token(catalog))
    for asked in (request("gate-8"), request(key="b")):
        with pytest.raises(TrustError, match="name and the key"):
            catalog.write(identity.check_renewal, certificate(), asked, at_ms=20)


def test_a_catalog_put_back(catalog: Catalog) -> None:
    """Who has a good certificate is let in again by a catalog that forgot it."""
    catalog.write(identity.check_renewal, certificate(), request(), at_ms=20)
    assert catalog.read(identity.get_identity, "device", "gate-7").state is State.ACTIVE


def _mark(previous: str, current: str) -> Mark:
    return Mark(previous=previous * 64, current=current * 64)


def test_one_chain_of_check_ins(catalog: Catalog) -> None:
    """Each check-in follows the one before, or repeats it; an end that is left behind, or none
    at all, means that two use the key, and both are refused."""
    note = identity.note_check_in
    for step in (_mark("1", "1"), _mark("1", "2"), _mark("1", "2"), _mark("2", "3")):
        assert catalog.write(note, certificate(), step, at_ms=1) == ""
    assert catalog.read(identity.refused) == []
    assert catalog.read(identity.count_refused) == 0
    assert "two places" in catalog.write(note, certificate(), _mark("1", "4"), at_ms=2)
    assert catalog.read(identity.get_identity, "device", "gate-7").state is State.CLONED
    assert {one.key for one in catalog.read(identity.refused)} == {"a" * 64}
    fresh = certificate("gate-8", "b")
    assert catalog.write(note, fresh, None, at_ms=1) == ""
    assert catalog.write(note, fresh, _mark("1", "1"), at_ms=1) == ""
    assert "two places" in catalog.write(note, fresh, None, at_ms=2)
