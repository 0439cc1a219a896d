"""What publishers put is judged as a client would: each rule has a put that only it refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, Targets

from distributor.signing import accept as rules
from distributor.signing.records import versions
from edge_sdk import trust
from edge_sdk.base import ConflictError, EdgeError, FormatError, RefusedError, TrustError
from tests.support.signing import File, Signing, artifact_of, client_finds, file_of, new_key

PATH = "team/digits/1.0.0/fp32.json"


def refused(signed: Signing, kind: type[EdgeError], match: str, *files: File) -> None:
    """The put is refused so, and nothing of it is kept."""
    before = signed.everything() if signed.catalog.read(versions) else {}
    with pytest.raises(kind, match=match):
        signed.put(*files)
    assert (signed.everything() if signed.catalog.read(versions) else {}) == before


# Names, sizes, numbers


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("timestamp.json", RefusedError, "signs snapshot and timestamp itself"),
        ("2.snapshot.json", RefusedError, "signs snapshot and timestamp itself"),
        ("ns_team.json", FormatError, "no name of a metadata file"),
        ("1.assignments.json", FormatError, "no role"),
        ("1.other.json", FormatError, "no role"),
        ("../1.root.json", FormatError, "no name of a metadata file"),
        ("2.bin_team-zz.json", RefusedError, "no document|version 0"),
        (f"{10**30}.ns_team.json", FormatError, "no name of a metadata file"),
    ],
)
def test_names(signed: Signing, name: str, kind: type[EdgeError], match: str) -> None:
    """Only roles that publishers sign can be put, under names and numbers that make sense."""
    signed.begin("team")
    if name.startswith("2.bin"):
        refused(signed, ConflictError, "version 0", (name, b"{}"))
    else:
        refused(signed, kind, match, (name, b"{}"))


def test_sizes_are_looked_at_before_anything_is_parsed(
    signed: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document beyond its limit is refused without a byte of it being read."""
    signed.begin("team")

    def parsed(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(rules, "read", parsed)
    monkeypatch.setattr(rules, "verify", parsed)
    monkeypatch.setattr(rules, "verify_root", parsed)
    for role, limit in (("root", 64 << 10), ("ns_team", 1 << 20)):
        with pytest.raises(FormatError, match=f"at most {limit}"):
            signed.put((f"2.{role}.json", b"[" * (limit + 1)))


def test_nothing_and_too_many(signed: Signing) -> None:
    """A put has at least one file and at most so many as a namespace can have bins."""
    with pytest.raises(FormatError, match="nothing to put"):
        signed.put()
    many = [(f"{n}.root.json", b"") for n in range(1, rules.FILES_MAX + 2)]
    with pytest.raises(FormatError, match="more than"):
        signed.put(*many)


def test_the_very_next_version_or_a_conflict(signed: Signing) -> None:
    """What was signed over an older version, or skips one, is a conflict that says what is here."""
    signed.begin("team")
    one = signed.sign_target(artifact_of("1.0.0"))
    other = signed.sign_target(artifact_of("2.0.0"))
    signed.put(one)
    with pytest.raises(ConflictError, match="version 2 here") as lost:
        signed.put(other)
    assert lost.value.facts == {"role": "ns_team", "version": 2}
    document = signed.document("ns_team")
    document.signed.version = 4
    refused(
        signed,
        ConflictError,
        "so 4 cannot be next",
        file_of("ns_team", document, signed.publishers["team"]),
    )


def test_a_name_that_is_not_its_documents_version(signed: Signing) -> None:
    """A file cannot call itself the next version while its document says another."""
    signed.begin("team")
    document = signed.document("ns_team")
    data = trust.sign(document, [signed.publishers["team"]])
    refused(signed, TrustError, "must have version 2", ("2.ns_team.json", data))
    root = signed.root()
    data = trust.sign(root, signed.root_keys)
    refused(signed, TrustError, "must have version 2", ("2.root.json", data))
    data = signed.held("targets")
    refused(signed, TrustError, "must have version 2", ("2.targets.json", data))
    signed.put(*signed.split())
    data = signed.held("bin_team-0")
    refused(signed, TrustError, "must have version 2", ("2.bin_team-0.json", data))


def test_one_role_twice(signed: Signing) -> None:
    """Two versions of one role at once are refused, except of the root."""
    signed.begin("team")
    one = signed.sign_target(artifact_of("1.0.0"))
    refused(signed, RefusedError, "put twice", one, ("3.ns_team.json", one[1]))


# Root


def test_the_first_put_needs_root_and_targets(signed: Signing) -> None:
    """Nothing can be put before a root, and no root without targets below it."""
    root, targets, team = signed.first("team")
    refused(signed, RefusedError, "no root here yet", targets, team)
    refused(signed, RefusedError, "no targets here yet", root)
    signed.put(root, targets)
    signed.put(team)


def test_a_root_is_signed_by_the_old_and_the_new_keys(signed: Signing, tmp_path: Path) -> None:
    """A new root needs the thresholds of both; clients follow it, and so do several at once."""
    signed.begin("team")
    old, new = signed.root_keys[0], new_key()
    root = trust.verify_root(signed.held("root"), None)
    second = trust.with_keys(root, "root", [new.public_key], 1, signed.now)
    refused(signed, TrustError, "not signed by enough", file_of("root", second, old))
    refused(signed, TrustError, "not signed by enough", file_of("root", second, new))
    again = file_of("root", trust.verify_root(signed.held("root"), None), old)
    refused(signed, ConflictError, "root is at version 1 here", again)
    third = trust.with_keys(second, "root", [old.public_key], 1, signed.now)
    signed.put(file_of("root", third, old, new), file_of("root", second, old, new))
    signed.publish("1.0.0")
    assert client_finds(signed.everything(), PATH, tmp_path / "client") is not None
    assert "3.root.json" in signed.everything()


def test_a_root_below_its_threshold(signed: Signing) -> None:
    """Two of three means two: one signature, or one key twice, is refused."""
    signed.root_keys = [new_key(), new_key(), new_key()]
    root = signed.root(threshold=2)
    rest = signed.first("team")[1:]
    refused(signed, TrustError, "not signed", file_of("root", root, signed.root_keys[0]), *rest)
    twice = [signed.root_keys[0], signed.root_keys[0]]
    refused(signed, TrustError, "not signed", file_of("root", root, *twice), *rest)
    signed.put(file_of("root", root, *signed.root_keys[1:]), *rest)


def test_one_public_key_under_two_ids(signed: Signing) -> None:
    """A key that would count twice is refused in the root and in delegations."""
    twin = signed.root_keys[0]
    other_id = SSlibKey.from_crypto(twin._private_key.public_key(), keyid="ab" * 32)
    second = CryptoSigner(twin._private_key, other_id)
    root = signed.root()
    root.signed.add_key(other_id, "root")
    root.signed.roles["root"].threshold = 2
    rest = signed.first("team")[1:]
    refused(signed, RefusedError, "one and the same", file_of("root", root, twin, second), *rest)
    targets = signed.targets("team", "lab")
    team = signed.publishers["team"]
    twin_id = SSlibKey.from_crypto(team._private_key.public_key(), keyid="cd" * 32)
    targets.signed.add_key(twin_id, "ns_lab")
    first = signed.first("team")[0]
    refused(
        signed,
        RefusedError,
        "one and the same",
        first,
        file_of("targets", targets, signed.targets_key),
    )


def test_a_root_without_consistent_snapshots(signed: Signing) -> None:
    """Clients ask for files by version, so a root that says otherwise is refused."""
    root = signed.root()
    root.signed.consistent_snapshot = False
    rest = signed.first("team")[1:]
    refused(signed, RefusedError, "consistent", file_of("root", root, *signed.root_keys), *rest)


def test_a_root_that_takes_the_targets_key_away(signed: Signing, tmp_path: Path) -> None:
    """New keys for targets come together with targets that they signed."""
    signed.begin("team")
    signed.publish("1.0.0")
    fresh = new_key()
    root = trust.verify_root(signed.held("root"), None)
    second = file_of(
        "root",
        trust.with_keys(root, "targets", [fresh.public_key], 1, signed.now),
        *signed.root_keys,
    )
    refused(signed, RefusedError, "put targets signed by them", second)
    targets = trust.edited(signed.document("targets"), expires=signed.now + timedelta(days=9))
    signed.put(second, file_of("targets", targets, fresh))
    assert client_finds(signed.everything(), PATH, tmp_path / "client") is not None


@pytest.mark.parametrize("role", ["root", "targets", "ns_team"])
def test_what_has_expired(signed: Signing, role: str) -> None:
    """Documents that are over when they come are refused."""
    signed.begin("team")
    past = signed.now
    if role == "root":
        root = trust.edited(trust.verify_root(signed.held("root"), None), expires=past)
        file = file_of("root", root, *signed.root_keys)
    else:
        key = signed.targets_key if role == "targets" else signed.publishers["team"]
        file = file_of(role, trust.edited(signed.document(role), expires=past), key)
    refused(signed, RefusedError, "expired", file)


# Targets


def _no_delegations(signed: Signing) -> File:
    document = signed.targets("team")
    document.signed.delegations = None
    return file_of("targets", document, signed.targets_key)


def _other_paths(signed: Signing) -> File:
    document = signed.targets("team")
    assert document.signed.delegations is not None
    assert document.signed.delegations.roles is not None
    document.signed.delegations.roles["ns_team"].paths = ["*/*/*/*"]
    return file_of("targets", document, signed.targets_key)


def _not_terminating(signed: Signing) -> File:
    document = signed.targets("team")
    assert document.signed.delegations is not None
    assert document.signed.delegations.roles is not None
    document.signed.delegations.roles["ns_team"].terminating = False
    return file_of("targets", document, signed.targets_key)


def _odd_name(signed: Signing) -> File:
    return _renamed(signed, "bin_team-0")


def _renamed(signed: Signing, name: str) -> File:
    document = signed.targets("team")
    assert document.signed.delegations is not None
    assert document.signed.delegations.roles is not None
    role = document.signed.delegations.roles.pop("ns_team")
    document.signed.delegations.roles[name] = DelegatedRole(
        "ns_team", role.keyids, 1, terminating=True, paths=role.paths
    )
    document.signed.delegations.roles[name].name = name
    return file_of("targets", document, signed.targets_key)


def _no_assignments(signed: Signing) -> File:
    document = signed.targets("team")
    assert document.signed.delegations is not None
    assert document.signed.delegations.roles is not None
    del document.signed.delegations.roles["assignments"]
    return file_of("targets", document, signed.targets_key)


def _own_target(signed: Signing) -> File:
    document = signed.targets("team")
    new = trust.add_target(document, PATH, b"{}", {}, now=signed.now)
    assert new is not None
    new.signed.version = 1
    return file_of("targets", new, signed.targets_key)


def _threshold(signed: Signing) -> File:
    document = signed.targets("team")
    assert document.signed.delegations is not None
    assert document.signed.delegations.roles is not None
    document.signed.delegations.roles["ns_team"].threshold = 2
    return file_of("targets", document, signed.targets_key)


def _foreign_assignments(signed: Signing) -> File:
    document = trust.delegate_assignments(
        signed.targets("team"), [new_key().public_key], now=signed.now
    )
    document.signed.version = 1
    return file_of("targets", document, signed.targets_key)


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (_no_delegations, "delegate to nobody"),
        (_other_paths, "must answer for team"),
        (_not_terminating, "must answer for team"),
        (_odd_name, "no namespace"),
        (_no_assignments, "no keys for assignments"),
        (_own_target, "name artifacts"),
        (_threshold, "threshold 2"),
        (_foreign_assignments, "does not have"),
    ],
)
def test_targets_delegate_and_do_nothing_else(
    signed: Signing, made: Callable[[Signing], File], match: str
) -> None:
    """Top-level targets that do more than delegate namespaces to their own paths are refused."""
    root = signed.first("team")[0]
    refused(signed, RefusedError, match, root, made(signed))


def test_targets_by_a_wrong_key(signed: Signing) -> None:
    """Targets that the root's key did not sign are refused."""
    root = signed.first("team")[0]
    forged = file_of("targets", signed.targets("team"), new_key())
    refused(signed, TrustError, "not signed by enough", root, forged)


def test_targets_that_take_a_namespaces_key_away(signed: Signing, tmp_path: Path) -> None:
    """A stolen key is stopped at once: its namespace says so, counts no more, and comes back
    when the new key signs; other namespaces never notice."""
    signed.begin("team", "lab")
    artifact = signed.publish("1.0.0")
    other = signed.publish("1.0.0", model="lab/digits")
    fresh = new_key()
    targets = trust.delegate_namespace(
        signed.document("targets"), "team", [fresh.public_key], now=signed.now
    )
    done = signed.put(file_of("targets", targets, signed.targets_key))
    assert done.unsigned_roles == ("ns_team",)
    assert signed.signed_now([artifact, other]) == [other.artifact]
    stolen = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
    refused(
        signed,
        TrustError,
        "not signed by enough",
        file_of("ns_team", stolen, signed.publishers["team"]),
    )
    signed.put(file_of("ns_team", stolen, fresh))
    assert set(signed.signed_now([artifact, other])) == {artifact.artifact, other.artifact}
    assert client_finds(signed.everything(), PATH, tmp_path / "client") is not None


def test_targets_that_give_a_key_back(signed: Signing) -> None:
    """Artifacts of a namespace count again when newer targets name its old key again."""
    signed.begin("team")
    artifact = signed.publish("1.0.0")
    for key in (new_key(), signed.publishers["team"]):
        targets = trust.delegate_namespace(
            signed.document("targets"), "team", [key.public_key], now=signed.now
        )
        signed.put(file_of("targets", targets, signed.targets_key))
    assert signed.signed_now([artifact]) == [artifact.artifact]


# Namespaces


def test_a_namespace_by_a_wrong_key(signed: Signing) -> None:
    """One publisher cannot sign in another's namespace."""
    signed.begin("team", "lab")
    _, data = signed.sign_target(artifact_of("1.0.0"))
    document = trust.read("ns_team", data, Targets)
    document.signatures.clear()
    forged = file_of("ns_team", document, signed.publishers["lab"])
    refused(signed, TrustError, "not signed by enough", forged)


def test_a_namespace_that_nobody_delegated(signed: Signing) -> None:
    """A document of a namespace that the targets do not name is refused."""
    signed.begin("team")
    empty = trust.new_namespace(now=signed.now)
    refused(signed, TrustError, "not delegated", file_of("ns_lab", empty, new_key()))


@pytest.mark.parametrize(
    "path", ["lab/digits/1.0.0/fp32.json", "team/x.json", "team/a/b/c/d.json", "@assignments/x"]
)
def test_targets_of_others_paths(signed: Signing, path: str) -> None:
    """A namespace's document may only name its own paths, of their form."""
    signed.begin("team")
    new = trust.add_target(signed.document("ns_team"), path, b"{}", {}, now=signed.now)
    assert new is not None
    forged = file_of("ns_team", new, signed.publishers["team"])
    refused(signed, RefusedError, "has the target", forged)


def test_a_namespace_that_delegates(signed: Signing) -> None:
    """A namespace may delegate to bins of its own and to nothing else."""
    signed.begin("team")
    key = signed.publishers["team"]
    for delegations in (
        Delegations(
            {key.public_key.keyid: key.public_key},
            {"x": DelegatedRole("x", [key.public_key.keyid], 1, terminating=True, paths=["*"])},
        ),
        Delegations(
            {key.public_key.keyid: key.public_key},
            succinct_roles=SuccinctRoles([key.public_key.keyid], 1, 2, "bin_lab"),
        ),
    ):
        document = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
        document.signed.delegations = delegations
        refused(signed, RefusedError, "ns_team delegates", file_of("ns_team", document, key))


# Bins


def test_bins(signed: Signing, tmp_path: Path) -> None:
    """A namespace that is split, and split again, has all its targets for clients."""
    signed.begin("team")
    numbers = [f"1.{n}.0" for n in range(6)]
    artifacts = [signed.publish(version) for version in numbers[:4]]
    signed.put(*signed.split())
    assert trust.bin_roles(signed.document("ns_team").signed)
    artifacts += [signed.publish(version) for version in numbers[4:5]]
    signed.put(*signed.split())
    artifacts += [signed.publish(version) for version in numbers[5:]]
    assert len(signed.signed_now(artifacts)) == 6
    files = signed.everything()
    for version in numbers:
        path = f"team/digits/{version}/fp32.json"
        assert client_finds(files, path, tmp_path / "client") is not None, path


def test_a_split_that_leaves_a_bin_out(signed: Signing) -> None:
    """Bins are put together with the document that spreads targets over them."""
    signed.begin("team")
    signed.publish("1.0.0")
    first = signed.split()
    refused(signed, RefusedError, "put all bins together", *first[:-1])
    signed.put(*first)
    left = [one for one in signed.split() if "bin_team-0" not in one[0]]
    refused(signed, RefusedError, "bins are split together", *left)


def test_a_bin_with_a_target_of_another(signed: Signing) -> None:
    """A target in a bin that its path does not hash into would be found by nobody."""
    signed.begin("team")
    signed.put(*signed.split())
    parent = signed.document("ns_team").signed
    right = trust.holder("team", parent, PATH)
    wrong = next(one for one in trust.bin_roles(parent) if one != right)
    new = trust.add_target(signed.document(wrong), PATH, b"{}", {}, now=signed.now)
    assert new is not None
    forged = file_of(wrong, new, signed.publishers["team"])
    refused(signed, RefusedError, "does not belong", forged)


def test_a_bin_by_a_wrong_key(signed: Signing) -> None:
    """A bin is signed by its namespace's key."""
    signed.begin("team")
    signed.put(*signed.split())
    name = trust.bin_roles(signed.document("ns_team").signed)[0]
    document = trust.edited(signed.document(name), expires=signed.now + timedelta(days=9))
    refused(signed, TrustError, "not signed by enough", file_of(name, document, new_key()))


def test_a_bin_of_a_namespace_whose_key_was_taken_away(signed: Signing) -> None:
    """A stolen key signs no bins either, once the targets name another."""
    signed.begin("team")
    signed.put(*signed.split())
    targets = trust.delegate_namespace(
        signed.document("targets"), "team", [new_key().public_key], now=signed.now
    )
    signed.put(file_of("targets", targets, signed.targets_key))
    stolen = signed.sign_target(artifact_of("1.0.0"))
    refused(signed, TrustError, "ns_team is not signed by enough", stolen)


def test_a_bin_that_has_expired(signed: Signing) -> None:
    """A bin that is over when it comes is refused."""
    signed.begin("team")
    signed.put(*signed.split())
    name = trust.bin_roles(signed.document("ns_team").signed)[0]
    document = trust.edited(signed.document(name), expires=signed.now)
    refused(signed, RefusedError, "expired", file_of(name, document, signed.publishers["team"]))


def test_a_bin_that_delegates(signed: Signing) -> None:
    """A bin holds targets and never delegates."""
    signed.begin("team")
    signed.put(*signed.split())
    name = trust.bin_roles(signed.document("ns_team").signed)[0]
    document = trust.edited(signed.document(name), expires=signed.now + timedelta(days=9))
    document.signed.delegations = Delegations({}, {})
    forged = file_of(name, document, signed.publishers["team"])
    refused(signed, RefusedError, "only holds targets", forged)


def test_a_bin_that_its_namespace_has_not(signed: Signing) -> None:
    """Bins come after the document that delegates to them, and only those that it names."""
    signed.begin("team")
    stray = file_of("bin_team-0", trust.new_namespace(now=signed.now), signed.publishers["team"])
    refused(signed, RefusedError, "has no bin", stray)
    signed.put(*signed.split())
    far = file_of("bin_team-9", trust.new_namespace(now=signed.now), signed.publishers["team"])
    refused(signed, RefusedError, "has no bin bin_team-9", far)


def test_a_bin_before_its_namespace(signed: Signing) -> None:
    """A bin of a namespace of which nothing was put yet is refused."""
    signed.put(*signed.first("team")[:2])
    stray = file_of("bin_team-0", trust.new_namespace(now=signed.now), signed.publishers["team"])
    refused(signed, RefusedError, "before its bins", stray)


def test_a_namespace_with_bins_and_targets_of_its_own(signed: Signing) -> None:
    """Targets are in one place: clients would look in both."""
    signed.begin("team")
    files = signed.split()
    parent = trust.read("ns_team", files[0][1], Targets)
    new = trust.add_target(parent, PATH, b"{}", {}, now=signed.now)
    assert new is not None
    new.signed.version -= 1
    forged = file_of("ns_team", new, signed.publishers["team"])
    refused(signed, RefusedError, "targets of its own", forged, *files[1:])


def test_more_bins_than_a_snapshot_holds(signed: Signing) -> None:
    """A document that claims billions of bins is refused before they are counted out."""
    signed.begin("team")
    key = signed.publishers["team"]
    document = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
    document.signed.delegations = Delegations(
        {key.public_key.keyid: key.public_key},
        succinct_roles=SuccinctRoles([key.public_key.keyid], 1, 32, "bin_team"),
    )
    refused(signed, RefusedError, "too many", file_of("ns_team", document, key))


def test_one_public_key_under_two_ids_for_bins(signed: Signing) -> None:
    """A key that would count twice for a bin is refused, too."""
    signed.begin("team")
    key = signed.publishers["team"]
    twin = SSlibKey.from_crypto(key._private_key.public_key(), keyid="ef" * 32)
    document = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
    document.signed.delegations = Delegations(
        {one.keyid: one for one in (key.public_key, twin)},
        succinct_roles=SuccinctRoles([key.public_key.keyid, twin.keyid], 2, 2, "bin_team"),
    )
    refused(signed, RefusedError, "one and the same", file_of("ns_team", document, key))


def test_a_namespace_whose_bins_lose_their_key(signed: Signing) -> None:
    """Where a namespace names other keys for its bins, they are put again, signed by them."""
    signed.begin("team")
    signed.put(*signed.split())
    key = signed.publishers["team"]
    fresh = new_key()
    document = trust.edited(signed.document("ns_team"), expires=signed.now + timedelta(days=9))
    document.signed.delegations = Delegations(
        {fresh.public_key.keyid: fresh.public_key},
        succinct_roles=SuccinctRoles([fresh.public_key.keyid], 1, 2, "bin_team"),
    )
    refused(signed, RefusedError, "not signed by its new keys", file_of("ns_team", document, key))
