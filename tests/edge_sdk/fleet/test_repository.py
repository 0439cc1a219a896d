"""What a publisher verifies before anything is signed over it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tuf.api.metadata import Snapshot, Timestamp

from edge_sdk import trust
from edge_sdk.base import EdgeError, FormatError, NotFoundError, TrustError
from edge_sdk.fleet import repository as room
from edge_sdk.fleet.repository import Repository
from tests.support.trust import SignedFleet, new_key


@pytest.fixture
def fleet() -> SignedFleet:
    return SignedFleet()


def opened(
    fleet: SignedFleet, root: bytes | None = None, *, replacing_root: bool = False
) -> Repository:
    def get(name: str) -> bytes:
        if name not in fleet.files:
            raise NotFoundError(f"no {name}")
        return fleet.files[name]

    return Repository(get, root or fleet.root, fleet.at, replacing_root=replacing_root)


def test_everything_newest(fleet: SignedFleet) -> None:
    """From the first root on, the newest targets and the newest document of a namespace."""
    repository = opened(fleet)
    document = repository.document("ns_team", repository.targets)
    assert document is not None
    assert document.signed.version == 1
    assert repository.document("ns_lab", repository.targets) is None


def test_roots_are_followed(fleet: SignedFleet) -> None:
    """A publisher who trusts an old root comes to the newest by way of all between."""
    first = fleet.root
    old, new = fleet.root_keys[0], new_key()
    root = trust.verify_root(first, None)
    fleet.put_root(trust.with_keys(root, "root", [new.public_key], 1, fleet.at), [old, new])
    repository = opened(fleet, first)
    assert repository.root.signed.version == 2


def test_a_root_by_somebody_else(fleet: SignedFleet) -> None:
    """A next root that the trusted one did not sign ends it."""
    stranger = SignedFleet()
    root = trust.edited(trust.verify_root(stranger.root, None), expires=fleet.at)
    stranger.put_root(root, stranger.root_keys)
    fleet.files["2.root.json"] = stranger.files["2.root.json"]
    with pytest.raises(TrustError, match="not signed"):
        opened(fleet)


def test_roots_without_end(fleet: SignedFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of roots longer than any honest one is refused."""
    monkeypatch.setattr(room, "ROOTS_MAX", 3)
    root = trust.verify_root(fleet.root, None)
    for _ in range(3):
        root = trust.edited(root, expires=fleet.at + timedelta(days=1))
        fleet.put_root(root, fleet.root_keys)
    with pytest.raises(TrustError, match="more than 3 roots"):
        opened(fleet)


def _expired(role: str) -> Callable[[SignedFleet], None]:
    def change(fleet: SignedFleet) -> None:
        if role == "root":
            root = trust.edited(trust.verify_root(fleet.root, None), expires=fleet.at)
            fleet.put_root(root, fleet.root_keys)
        elif role == "timestamp":
            document = trust.read("timestamp", fleet.newest("timestamp"), Timestamp)
            document.signed.expires = fleet.at
            document.signatures.clear()
            fleet.files["timestamp.json"] = trust.sign(document, [fleet.timestamp_key])
        else:
            snapshot = trust.read("snapshot", fleet.newest("snapshot"), Snapshot)
            snapshot.signed.expires = fleet.at
            snapshot.signatures.clear()
            data = trust.sign(snapshot, [fleet.snapshot_key])
            fleet.files["1.snapshot.json"] = data
            fleet.put_timestamp((1, data))

    return change


def _longer(fleet: SignedFleet) -> None:
    fleet.files["1.ns_team.json"] += b" "


def _other_bytes(fleet: SignedFleet) -> None:
    data = fleet.files["1.ns_team.json"]
    fleet.files["1.ns_team.json"] = data[:-1] + b" "


def _other_snapshot(fleet: SignedFleet) -> None:
    fleet.files["1.snapshot.json"] = fleet.files["1.snapshot.json"][:-1] + b" "


def _forged_timestamp(fleet: SignedFleet) -> None:
    document = trust.read("timestamp", fleet.newest("timestamp"), Timestamp)
    document.signatures.clear()
    fleet.files["timestamp.json"] = trust.sign(document, [new_key()])


def _snapshot_without_targets(fleet: SignedFleet) -> None:
    snapshot = trust.read("snapshot", fleet.newest("snapshot"), Snapshot)
    del snapshot.signed.meta["targets.json"]
    snapshot.signatures.clear()
    data = trust.sign(snapshot, [fleet.snapshot_key])
    fleet.files["1.snapshot.json"] = data
    fleet.put_timestamp((1, data))


def _version_of_another(fleet: SignedFleet) -> None:
    """The snapshot calls version 1 of a document version 7."""
    snapshot = trust.read("snapshot", fleet.newest("snapshot"), Snapshot)
    snapshot.signed.meta["ns_team.json"].version = 7
    snapshot.signatures.clear()
    data = trust.sign(snapshot, [fleet.snapshot_key])
    fleet.files["7.ns_team.json"] = fleet.files["1.ns_team.json"]
    fleet.files["1.snapshot.json"] = data
    fleet.put_timestamp((1, data))


def _by_another_key(fleet: SignedFleet) -> None:
    document = trust.edited(fleet.targets_of("ns_team"), expires=fleet.at + timedelta(days=1))
    fleet.put([("ns_team", document, new_key())])


def test_an_expired_root_is_replaced(fleet: SignedFleet) -> None:
    """Over it nothing is signed but the next root, which is said."""
    _expired("root")(fleet)
    with pytest.raises(TrustError, match="keys draft root"):
        opened(fleet)
    assert opened(fleet, replacing_root=True).root.signed.version == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_expired("root"), "root has expired"),
        (_expired("timestamp"), "timestamp has expired"),
        (_expired("snapshot"), "snapshot has expired"),
        (_longer, "bytes instead of"),
        (_other_bytes, "not what the snapshot names"),
        (_other_snapshot, "not what the snapshot names"),
        (_forged_timestamp, "not signed by enough"),
        (_snapshot_without_targets, "does not name the targets"),
        (_version_of_another, "not the version"),
        (_by_another_key, "not signed by enough"),
    ],
)
def test_nothing_is_signed_over_what_does_not_verify(
    fleet: SignedFleet, change: Callable[[SignedFleet], None], match: str
) -> None:
    """Each way in which a distributor can lie ends before there is anything to sign over."""
    change(fleet)
    with pytest.raises(EdgeError, match=match) as refused:
        repository = opened(fleet)
        repository.document("ns_team", repository.targets)
    assert isinstance(refused.value, (TrustError, FormatError))
