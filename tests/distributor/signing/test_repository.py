"""What publishers put, what is signed over it, and what clients make of it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Select
from sqlalchemy.dialects import postgresql
from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import Snapshot, TargetFile, Timestamp

from distributor import rollouts, signing
from distributor.rollouts import Cohort, RolloutRequest
from distributor.signing import repository
from distributor.signing.records import lock
from edge_sdk import trust
from edge_sdk.base import (
    FormatError,
    ModelName,
    NotFoundError,
    RefusedError,
    ResourceError,
    Version,
)
from edge_sdk.manifest import Assignment, encode_assignment
from tests.support.signing import (
    Signing,
    artifact_of,
    client_finds,
    file_of,
    new_key,
    this_second,
)

PATH = "team/digits/1.0.0/fp32.json"
DIGITS = ModelName.parse("team/digits")


def test_a_client_finds_what_was_put(signed: Signing, tmp_path: Path) -> None:
    """A published artifact is a target that python-tuf's client accepts from the first root on."""
    signed.begin("team")
    artifact = signed.publish("1.0.0")
    found = client_finds(signed.everything(), PATH, tmp_path / "client")
    assert found is not None
    assert found.hashes == {"sha256": str(artifact.artifact)}
    assert found.length == len(artifact.document)


def test_a_put_that_fails_late_leaves_nothing(
    signed: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents, targets, snapshot and timestamp come together or not at all."""
    signed.begin("team")
    before = signed.everything()
    file = signed.sign_target(artifact_of("1.0.0"))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(repository, "next_timestamp", broken)
        with pytest.raises(RuntimeError):
            signed.put(file)
    assert signed.everything() == before
    signed.put(file)


def test_the_snapshot_names_lengths_and_hashes_and_drops_nothing(signed: Signing) -> None:
    """Each put raises snapshot and timestamp by one; every role stays in, with length and hash."""
    signed.begin("team", "lab")
    signed.publish("1.0.0")
    snapshot = trust.read("snapshot", signed.held("snapshot"), Snapshot).signed
    timestamp = trust.read("timestamp", signed.held("timestamp"), Timestamp).signed
    assert (snapshot.version, timestamp.version) == (2, 2)
    assert sorted(snapshot.meta) == ["ns_lab.json", "ns_team.json", "targets.json"]
    for name, meta in snapshot.meta.items():
        assert meta.length == len(signed.held(name.removesuffix(".json")))
        assert set(meta.hashes or {}) == {"sha256"}


def test_old_documents_stay_for_those_who_still_ask(signed: Signing) -> None:
    """A device in the middle of a refresh finds what its timestamp names for an hour, and the
    last but one for ever; every root is kept."""
    signed.begin("team")
    for number in range(4):
        signed.publish(f"1.{number}.0")
    assert signed.catalog.read(signing.metadata_file, "1.ns_team.json")
    signed.later(hours=2)
    signed.publish("2.0.0")
    signed.publish("2.1.0")
    signed.catalog.read(signing.metadata_file, "6.ns_team.json")
    for gone in ("1.ns_team.json", "4.ns_team.json", "2.snapshot.json"):
        with pytest.raises(NotFoundError):
            signed.catalog.read(signing.metadata_file, gone)
    assert signed.catalog.read(signing.metadata_file, "1.root.json")


# Artifacts


def test_a_target_that_is_not_here(signed: Signing) -> None:
    """A target whose artifact was not published, or has other bytes, is refused."""
    signed.begin("team")
    file = signed.sign_target(artifact_of("1.0.0"), add=False)
    with pytest.raises(RefusedError, match="not here"):
        signed.put(file)
    signed.catalog.add(artifact_of("1.0.0"))
    signed.put(file)


def test_a_target_under_another_name(signed: Signing) -> None:
    """An artifact cannot be signed under another version's path: wrong software under a good name."""
    signed.begin("team")
    artifact = artifact_of("1.0.0")
    signed.catalog.add(artifact)
    new = trust.add_target(
        signed.document("ns_team"),
        "team/digits/2.0.0/fp32.json",
        artifact.document,
        {},
        now=signed.now,
    )
    assert new is not None
    with pytest.raises(RefusedError, match=r"names the artifact of team/digits 1\.0\.0 fp32"):
        signed.put(file_of("ns_team", new, signed.publishers["team"]))


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"length": 5}, RefusedError, "has 5 bytes"),
        ({"hashes": {"sha512": "ab" * 64}}, FormatError, "no SHA-256"),
        ({"custom": {"floor": "2.0.0"}}, FormatError, "no version up to its own"),
        ({"custom": {"floor": "new"}}, FormatError, "semantic version"),
        ({"custom": {"floor": 1}}, FormatError, "no version up to its own"),
    ],
)
def test_a_target_that_says_something_else(
    signed: Signing, change: dict[str, object], kind: type[Exception], match: str
) -> None:
    """Length, hash and floor of a target must be those of its artifact."""
    signed.begin("team")
    artifact = artifact_of("1.0.0")
    signed.catalog.add(artifact)
    said = TargetFile.from_data(PATH, artifact.document, ["sha256"]).to_dict()
    document = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
    document.signed.targets[PATH] = TargetFile.from_dict(said | change, PATH)
    with pytest.raises(kind, match=match):
        signed.put(file_of("ns_team", document, signed.publishers["team"]))


def test_a_target_that_is_taken_back(signed: Signing) -> None:
    """A publisher who leaves an artifact out of the next document withdraws it."""
    signed.begin("team")
    artifact = signed.publish("1.0.0")
    document = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
    document.signed.targets.clear()
    signed.put(file_of("ns_team", document, signed.publishers["team"]))
    assert signed.signed_now([artifact]) == []


def test_bins_that_are_given_up(signed: Signing) -> None:
    """Targets in bins that their namespace does not name any more count no more."""
    signed.begin("team")
    artifact = signed.publish("1.0.0")
    signed.put(*signed.split())
    assert signed.signed_now([artifact]) == [artifact.artifact]
    document = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
    document.signed.delegations = None
    signed.put(file_of("ns_team", document, signed.publishers["team"]))
    assert signed.signed_now([artifact]) == []


def test_a_snapshot_that_clients_would_not_take(
    signed: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that would make the snapshot larger than clients read is refused as a whole."""
    signed.begin("team")
    before = signed.everything()
    monkeypatch.setattr(repository, "SNAPSHOT_BYTES_MAX", 200)
    with pytest.raises(ResourceError, match="more than clients take"):
        signed.publish("1.0.0")
    assert signed.everything() == before


def test_one_put_at_a_time() -> None:
    """Where a database lets several write at once, a put holds the row of the timestamp."""
    said: list[str] = []

    class Connection:
        def execute(self, query: Select[tuple[str]]) -> Connection:
            said.append(str(query.compile(dialect=postgresql.dialect())))
            return self

        def all(self) -> None:
            return None

    lock(Connection())  # type: ignore[arg-type]
    assert "FOR UPDATE" in said[0]


def test_what_may_be_rolled_out(signed: Signing) -> None:
    """Only what a publisher signed; before there are signed metadata, nothing."""
    artifact = artifact_of("1.0.0")
    named = {artifact.artifact: "team/digits 1.0.0 fp32"}
    with pytest.raises(RefusedError, match="not signed"):
        signed.catalog.read(signing.check_signed, named)
    signed.begin("team")
    with pytest.raises(RefusedError, match=r"team/digits 1.0.0 fp32: not signed.*publish it again"):
        signed.catalog.read(signing.check_signed, named)
    signed.put(signed.sign_target(artifact))
    signed.catalog.read(signing.check_signed, named)


def test_a_floor_that_the_namespace_repeats(signed: Signing) -> None:
    """Devices keep to it, so nothing below it is rolled out, although no target has it (a bin
    that was put anew without the version that brought it)."""
    signed.begin("team")
    signed.publish("1.0.0")
    document = signed.document("ns_team")
    trust.repeat_floors(document.signed, {"team/digits": Version.parse("2.0.0")})
    document.signed.version += 1
    signed.put(file_of("ns_team", document, signed.publishers["team"]))
    with pytest.raises(RefusedError, match=r"below 2\.0\.0, the floor"):
        signed.catalog.read(signing.check_floor, DIGITS, Version.parse("1.0.0"))
    signed.catalog.read(signing.check_floor, DIGITS, Version.parse("2.0.0"))
    letters = ModelName.parse("team/letters")
    signed.catalog.read(signing.check_floor, letters, Version.parse("1.0.0"))
    signed.catalog.check_in("cam-1")
    request = RolloutRequest(model=DIGITS, version=Version.parse("1.0.0"), cohort=Cohort())
    with pytest.raises(RefusedError, match="no device would install it"):
        signed.catalog.write(rollouts.create, request, at_ms=1, by="alice")


def test_floors(signed: Signing) -> None:
    """Below the highest floor that is signed for a model nothing is rolled out."""
    signed.begin("team")
    signed.publish("1.0.0")
    signed.publish("2.0.0", floor="2.0.0")
    signed.publish("3.0.0", floor="1.0.0")
    with pytest.raises(RefusedError, match=r"below 2\.0\.0, the floor"):
        signed.catalog.read(signing.check_floor, DIGITS, Version.parse("1.0.0"))
    signed.catalog.read(signing.check_floor, DIGITS, Version.parse("2.0.0"))
    other = ModelName.parse("team/letters")
    signed.catalog.read(signing.check_floor, other, Version.parse("1.0.0"))


# Renewal


def test_renewal(signed: Signing) -> None:
    """The timestamp is signed again every hour, the snapshot days before its end, not before."""
    assert not signed.renew(), "there is nothing yet"
    signed.begin("team")
    assert not signed.renew()
    signed.later(hours=1)
    assert signed.renew()
    assert not signed.renew()
    assert _versions(signed) == (1, 2)
    signed.later(days=4, hours=1)
    assert signed.renew()
    assert _versions(signed) == (2, 3)


def test_a_client_long_after(signed: Signing, tmp_path: Path) -> None:
    """What nobody renews expires for clients; after a renewal they go on as if nothing was."""
    signed.now = this_second() - timedelta(days=30)
    signed.begin("team")
    signed.publish("1.0.0")
    with pytest.raises(ExpiredMetadataError):
        client_finds(signed.everything(), PATH, tmp_path / "client")
    signed.now = this_second()
    assert signed.renew()
    assert client_finds(signed.everything(), PATH, tmp_path / "client") is not None


def _versions(signed: Signing) -> tuple[int, int]:
    snapshot = trust.read("snapshot", signed.held("snapshot"), Snapshot).signed.version
    return snapshot, trust.read("timestamp", signed.held("timestamp"), Timestamp).signed.version


# Online keys


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_an_online_key_is_rotated(signed: Signing, role: str, tmp_path: Path) -> None:
    """A new key is used from the root on that names it; the old one is in use until then."""
    signed.begin("team")
    signed.publish("1.0.0")
    made = signed.keys.add(role)
    assert made.key_id not in _in_use(signed, role)
    signed.publish("1.1.0")
    root = trust.verify_root(signed.held("root"), None)
    second = trust.with_keys(root, role, [made.public], 1, signed.now)
    signed.put(file_of("root", second, *signed.root_keys))
    assert _in_use(signed, role) == {made.key_id}
    assert client_finds(signed.everything(), PATH, tmp_path / "client") is not None


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_a_root_that_names_keys_of_others(signed: Signing, role: str) -> None:
    """A root whose online keys are not here would leave clients without anything: refused."""
    signed.begin("team")
    root = trust.verify_root(signed.held("root"), None)
    second = trust.with_keys(root, role, [new_key().public_key], 1, signed.now)
    before = signed.everything()
    with pytest.raises(RefusedError, match=f"keys for {role} that this distributor does not have"):
        signed.put(file_of("root", second, *signed.root_keys))
    assert signed.everything() == before


def _in_use(signed: Signing, role: str) -> set[str]:
    found = signed.catalog.read(signing.online_keys, signed.keys)
    return {key.key_id for key, in_use in found if in_use and key.role == role}


def _seal(signed: Signing, counter: int) -> bytes:
    said = Assignment(device="gate-1", counter=counter, models=(), expires_s=None)
    return signed.catalog.write(
        signing.seal,
        signed.keys,
        device="gate-1",
        counter=counter,
        document=encode_assignment(said),
    )


def test_assignments_are_sealed(signed: Signing) -> None:
    """An assignment verifies by the key that the targets name; the same counter gives the same
    bytes; before there are metadata it travels bare."""
    signed.catalog.check_in("gate-1")
    bare = _seal(signed, 1)
    assert json.loads(bare)["counter"] == 1
    signed.begin("team")
    sealed = _seal(signed, 1)
    assert trust.open_assignment(sealed, signed.document("targets").signed) == bare
    assert _seal(signed, 1) == sealed
    assert _seal(signed, 2) != sealed


def test_the_assignment_key_is_rotated(signed: Signing) -> None:
    """When the targets name a new key, assignments are signed by it, with the same payload."""
    signed.catalog.check_in("gate-1")
    signed.begin("team")
    sealed = _seal(signed, 1)
    made = signed.keys.add("assignments")
    assert _seal(signed, 1) == sealed
    targets = trust.delegate_assignments(signed.document("targets"), [made.public], now=signed.now)
    signed.put(file_of("targets", targets, signed.targets_key))
    anew = _seal(signed, 1)
    assert anew != sealed
    document = signed.document("targets").signed
    assert trust.open_assignment(anew, document) == trust.peek_assignment(sealed)


def test_kept_envelopes_are_sent_again(signed: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that was sealed is not signed again: a key whose signatures differ each time
    would make two documents of one number."""
    signed.catalog.check_in("gate-1")
    signed.begin("team")
    sealed = _seal(signed, 1)

    def signs(*_: object) -> bytes:
        raise AssertionError("it was signed again")

    monkeypatch.setattr(repository, "seal_assignment", signs)
    assert _seal(signed, 1) == sealed


def test_an_assignment_key_that_is_gone(signed: Signing) -> None:
    """Nothing unsigned leaves a distributor whose metadata name assignment keys."""
    signed.catalog.check_in("gate-1")
    signed.begin("team")
    signed.keys.add("assignments")
    (old,) = _in_use(signed, "assignments")
    signed.keys.forget(old)
    with pytest.raises(RefusedError, match="keys for assignments"):
        _seal(signed, 1)
