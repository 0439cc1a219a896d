"""Signed metadata: who may sign what, what follows what, and that python-tuf's client agrees."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from edge_sdk import trust
from edge_sdk.base import ConflictError, FormatError, ModelName, RefusedError, TrustError, Version
from edge_sdk.manifest import Assignment
from tests.support.artifacts import make_artifact
from tests.support.trust import SignedFleet, new_key, now


class Served(FetcherInterface):
    """A repository's files, by name."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self.files:
            raise DownloadHTTPError(name, 404)
        yield self.files[name]


def client(fleet: SignedFleet, folder: Path) -> Updater:
    return Updater(
        str(folder), "x:", fetcher=Served(fleet.files), bootstrap=fleet.root, target_dir=str(folder)
    )


def test_a_client_finds_what_a_publisher_signed(tmp_path: Path) -> None:
    """Length, hash and floor arrive at python-tuf's client; what was not signed is not found."""
    fleet = SignedFleet()
    artifact = make_artifact({"model.bin": b"x"})
    path = fleet.publish(artifact.document, floor="1.0.0")
    found = client(fleet, tmp_path).get_targetinfo(path)
    assert found is not None
    assert found.hashes == {"sha256": artifact.artifact.raw.hex()}
    assert found.length == len(artifact.document)
    assert found.custom == {"floor": "1.0.0"}
    assert client(fleet, tmp_path).get_targetinfo("team/digits/9.0.0/fp32.json") is None


def test_a_key_answers_for_its_namespace_alone(tmp_path: Path) -> None:
    """A target signed into somebody else's namespace is not found by any client."""
    fleet = SignedFleet(namespaces=("team", "other"))
    foreign = trust.add_target(
        fleet.targets_of("ns_other"), "team/digits/1.0.0/fp32.json", b"{}", {}, now=fleet.at
    )
    assert foreign is not None
    fleet.put([("ns_other", foreign, fleet.publishers["other"])])
    assert client(fleet, tmp_path).get_targetinfo("team/digits/1.0.0/fp32.json") is None


def test_a_large_namespace_is_spread_over_bins_and_every_target_is_found(tmp_path: Path) -> None:
    """Splits lose no target, and a client walks to the right bin."""
    fleet = SignedFleet()
    key = fleet.publishers["team"]
    document, bins = fleet.targets_of("ns_team"), {}
    paths = [f"team/digits/{number}.0.0/fp32.json" for number in range(400)]
    for path in paths:
        role = trust.holder("team", document.signed, path)
        new = trust.add_target(bins.get(role, document), path, path.encode(), {}, now=fleet.at)
        assert new is not None
        new.signed.version -= 1  # all of it is put at once
        if role == "ns_team":
            document = new
        else:
            bins[role] = new
        if trust.is_full(new.signed):
            document, bins = trust.split("team", document, bins, [key.public_key], now=fleet.at)
    assert set(bins) == set(trust.bin_roles(document.signed))
    assert sum(len(one.signed.targets) for one in bins.values()) == len(paths)
    fleet.put([(role, one, key) for role, one in (("ns_team", document), *bins.items())])
    updater = client(fleet, tmp_path)
    for path in paths[::37]:
        found = updater.get_targetinfo(path)
        assert found is not None
        assert found.length == len(path)


def test_one_path_has_one_content() -> None:
    """The same again changes nothing, other content is a conflict, another floor a new version."""
    fleet = SignedFleet()
    document = trust.add_target(fleet.targets_of("ns_team"), "p", b"one", {}, now=fleet.at)
    assert document is not None
    assert trust.add_target(document, "p", b"one", {}, now=fleet.at) is None
    with pytest.raises(ConflictError):
        trust.add_target(document, "p", b"two", {}, now=fleet.at)
    raised = trust.add_target(document, "p", b"one", {"floor": "2.0.0"}, now=fleet.at)
    assert raised is not None
    assert raised.signed.version == document.signed.version + 1


def test_a_root_needs_the_old_threshold_and_its_own() -> None:
    """One signature less than either demands is too few; versions leave no gap."""
    old_keys, new_keys = [new_key() for _ in range(3)], [new_key() for _ in range(3)]
    fleet = SignedFleet(root_keys=old_keys)
    first = trust.verify_root(fleet.root, None)
    second = trust.with_keys(first, "root", [key.public_key for key in new_keys], 2, now())
    for signers in (old_keys, new_keys, [*old_keys[:2], *new_keys], [*old_keys, new_keys[0]]):
        with pytest.raises(TrustError, match="not signed by enough"):
            trust.verify_root(trust.sign(second, signers), first)
    verified = trust.verify_root(trust.sign(second, [*old_keys, *new_keys[1:]]), first)
    assert verified.signed.version == 2
    with pytest.raises(TrustError, match="must have version 3"):
        trust.verify_root(trust.sign(second, [*old_keys, *new_keys]), verified)


def test_a_root_with_one_key_twice_is_refused() -> None:
    """Two ids of one key would meet a threshold of two."""
    key = new_key()
    twin = CryptoSigner(key._private_key, _renamed(key.public_key))
    with pytest.raises(RefusedError, match="one and the same"):
        trust.new_root(
            root_keys=[key.public_key, twin.public_key],
            threshold=2,
            targets_keys=[key.public_key],
            snapshot_key=key.public_key,
            timestamp_key=key.public_key,
            now=now(),
        )


def _renamed(key: SSlibKey) -> SSlibKey:
    return SSlibKey("a" * 64, key.keytype, key.scheme, key.keyval)


def test_documents_are_verified_by_who_delegated() -> None:
    """No signature, a stranger's, and a role that nobody delegated are refused."""
    fleet = SignedFleet()
    targets = fleet.targets_of()
    trust.verify("ns_team", fleet.newest("ns_team"), Targets, by=targets)
    forged = trust.sign(fleet.targets_of("ns_team"), [])
    document = trust.read("ns_team", forged, Targets)
    document.signatures.clear()
    for data in (trust.sign(document, []), trust.sign(document, [new_key()])):
        with pytest.raises(TrustError, match="not signed by enough"):
            trust.verify("ns_team", data, Targets, by=targets)
    with pytest.raises(TrustError, match="not delegated"):
        trust.verify("ns_else", fleet.newest("ns_team"), Targets, by=targets)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 5000, b'{"signed":' + b"9" * 5000, b"\0" * 100, b" " * (1 << 21)],
    ids=["empty", "object", "deep", "number", "zeros", "large"],
)
def test_what_is_no_metadata_is_a_format_error(data: bytes) -> None:
    """Whatever stands in a document, reading it ends in one typed error."""
    with pytest.raises(FormatError):
        trust.read("ns_team", data, Targets)


def test_metadata_of_another_kind_are_refused() -> None:
    """A good timestamp is no list of targets."""
    fleet = SignedFleet()
    with pytest.raises(FormatError, match="another kind"):
        trust.read("ns_team", fleet.newest("timestamp"), Targets)


def test_a_snapshot_never_drops_a_role_and_pins_lengths_and_hashes() -> None:
    """Clients check both before they parse, down from the timestamp."""
    fleet = SignedFleet(namespaces=("one", "two"))
    fleet.put([("ns_one", trust.edited(fleet.targets_of("ns_one"), expires=now()), new_key())])
    from tuf.api.metadata import Snapshot, Timestamp

    snapshot = trust.read("snapshot", fleet.newest("snapshot"), Snapshot).signed
    assert set(snapshot.meta) == {"targets.json", "ns_one.json", "ns_two.json"}
    for name, meta in snapshot.meta.items():
        role = name.removesuffix(".json")
        data = fleet.files[trust.file_name(role, meta.version)]
        meta.verify_length_and_hashes(data)
        assert meta.length == len(data)
    timestamp = trust.read("timestamp", fleet.newest("timestamp"), Timestamp).signed
    timestamp.snapshot_meta.verify_length_and_hashes(fleet.newest("snapshot"))
    assert timestamp.version == 2


def test_what_one_of_100000_artifacts_costs_a_device() -> None:
    """1,024 bins of about 100 targets: snapshot and one bin are 50 KB, 8 KB in transport."""
    key = new_key()
    bins = {f"bin_team-{number:03x}": (1, b"") for number in range(1024)}
    snapshot = trust.sign(trust.next_snapshot(bins, None, now=now()), [key])
    document = trust.new_namespace(now=now())
    for number in range(98):
        path = f"team/model-{number:03d}/{number}.0.0/variant-{number % 7}.json"
        document = trust.add_target(document, path, path.encode(), {}, now=now()) or document
    one_bin = trust.sign(document, [key])
    assert len(snapshot) + len(one_bin) < 51_000
    assert len(zlib.compress(snapshot, 9)) + len(zlib.compress(one_bin, 9)) < 8_500


def test_assignments_are_signed_by_the_key_that_the_targets_name() -> None:
    """Another key, another type and garbage are refused; the same payload has the same bytes."""
    fleet = SignedFleet()
    assignment = Assignment(device="d1", counter=3, models=(), expires_s=None)
    sealed = fleet.assign(assignment)
    targets = fleet.targets_of().signed
    payload = trust.open_assignment(sealed, targets)
    assert payload == trust.peek_assignment(sealed)
    assert sealed == fleet.assign(assignment)  # Ed25519: the same bytes again
    forged = trust.seal_assignment(payload, new_key())
    for bad in (forged, sealed.replace(b"edge.assignment", b"edge.assignmemt")):
        with pytest.raises(TrustError):
            trust.open_assignment(bad, targets)
    for garbage in (b"", b"[]", b"{}", b"x" * 100, sealed[:-9]):
        with pytest.raises(FormatError):
            trust.open_assignment(garbage, targets)


def test_names_of_roles_and_files() -> None:
    """What is written is read back, and nothing else is a name."""
    path = trust.target_path(ModelName.parse("team/digits"), Version.parse("1.0.0-rc.1"), "fp32")
    assert path == "team/digits/1.0.0-rc.1/fp32.json"
    for name, parsed in (
        ("12.root.json", ("root", 12)),
        ("timestamp.json", ("timestamp", None)),
        ("3.ns_team.json", ("ns_team", 3)),
        ("3.bin_te-am-0f.json", ("bin_te-am-0f", 3)),
    ):
        assert trust.parse_file_name(name) == parsed
    assert trust.namespace_of("bin_te-am-0f") == "te-am"
    for bad in ("root.json", "1.timestamp.json", "01.root.json", "../1.root.json", "1.x.json", ""):
        with pytest.raises(FormatError):
            trust.parse_file_name(bad)


def test_expiry_is_a_year_for_people_and_short_for_machines() -> None:
    """Freshness comes from what a machine signs."""
    fleet = SignedFleet()
    assert fleet.targets_of().signed.expires == fleet.at + timedelta(days=365)
    from tuf.api.metadata import Snapshot, Timestamp

    for role, kind, days in (("snapshot", Snapshot, 7), ("timestamp", Timestamp, 1)):
        signed = trust.read(role, fleet.newest(role), kind).signed
        assert signed.expires == fleet.at + timedelta(days=days)


def test_a_timestamp_says_when_it_was_signed() -> None:
    """Each anew; a timestamp of somebody else's tool says nothing, nor does one that lies."""
    fleet = SignedFleet()
    first = trust.read("timestamp", fleet.newest("timestamp"), Timestamp)
    assert trust.signed_at(first.signed) == fleet.at
    later = trust.next_timestamp((2, b"{}"), first, now=fleet.at + timedelta(hours=1))
    assert trust.signed_at(later.signed) == fleet.at + timedelta(hours=1)
    for said in ("yesterday", 7, None):
        later.signed.unrecognized_fields["x-signed-at"] = said
        assert trust.signed_at(later.signed) is None
