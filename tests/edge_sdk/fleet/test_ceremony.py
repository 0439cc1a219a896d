"""Ceremonies against a real distributor: who may sign what changes, and nobody else changes it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Targets

from edge_sdk.base import ConflictError, NotFoundError, RefusedError, UsageError
from edge_sdk.fleet import Draft, Fleet, KeyFolder
from edge_sdk.fleet import ceremony as ceremonies
from edge_sdk.fleet.ceremony import Ceremony, Signers
from edge_sdk.fleet.repository import Repository, now
from tests.support.signed_fleet import key_folder

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the distributor needs 3.11")


@dataclass
class People:
    """Three hold the root, one of them the targets; one publishes. Each has a folder."""

    address: str
    fleet: Fleet
    folder: Path

    def of(self, name: str) -> KeyFolder:
        return key_folder(self.folder / name)

    def key(self, name: str, role: str) -> Key:
        """The newest key that somebody has for a role; made where there is none."""
        held = self.of(name)
        if not (held.exists() and held.public(role)):
            held.create(role)
        return held.public(role)[-1]

    def begin(self, *, threshold: int = 2) -> Ceremony:
        return ceremonies.draft_first(
            self.fleet.metadata.newest_online(),
            root=Signers(keys=[self.key(one, "root") for one in "abc"], threshold=threshold),
            targets=Signers(keys=[self.key("a", "targets")]),
            namespaces={"team": Signers(keys=[self.key("publisher", "ns_team")])},
            now=now(),
        )

    def begun(self) -> None:
        drafted = self.begin()
        for one in ("a", "b", "publisher"):
            drafted = drafted.signed_by(self.of(one))
        files = drafted.files()
        self.fleet.metadata.put(files)
        for one in ("a", "b", "c", "publisher"):
            self.of(one).trust_root(dict(files)["1.root.json"])

    def repository(self) -> Repository:
        return self.fleet.metadata.repository(self.of("a"))

    def put(self, drafted: Ceremony, *names: str) -> tuple[str, ...]:
        for one in names:
            drafted = drafted.signed_by(self.of(one))
        return self.fleet.metadata.put(drafted.files())

    def publish(self, version: str, keys: KeyFolder) -> None:
        file = self.folder / f"{version}.bin"
        file.write_bytes(version.encode())
        with Fleet(self.address, operator="tester", keys=keys) as fleet:
            fleet.publish(file, Draft(model="team/digits", version=version, variant="fp32"))


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    from tests.support.fleet_server import fleet_server

    with fleet_server(tmp_path / "data") as server:
        address = server.serving.operator_address
        with Fleet(address, operator="tester") as fleet:
            yield People(address=address, fleet=fleet, folder=tmp_path)


def targets_of(people: People) -> Metadata[Targets]:
    repository = people.repository()
    document = repository.document("ns_team", repository.targets)
    assert document is not None
    return document


def test_two_of_three_begin(people: People) -> None:
    """One signature of two is too few to be put; the second makes it whole."""
    drafted = people.begin().signed_by(people.of("a")).signed_by(people.of("publisher"))
    short = [one for one in drafted.wanted() if one.missing]
    assert [(one.name, one.missing, one.threshold) for one in short] == [("1.root.json", 1, 2)]
    with pytest.raises(RefusedError, match="lacks 1 of 2"):
        drafted.files()
    people.fleet.metadata.put(drafted.signed_by(people.of("c")).files())
    people.of("a").trust_root(drafted.signed_by(people.of("c")).files()[0][1])
    people.publish("1.0.0", _with_root(people, "publisher"))
    assert set(targets_of(people).signed.targets) == {"team/digits/1.0.0/fp32.json"}


def _with_root(people: People, name: str) -> KeyFolder:
    root = people.of("a").root()
    assert root is not None
    people.of(name).trust_root(root)
    return people.of(name)


def test_a_lost_root_key_is_replaced_by_the_other_two(people: People) -> None:
    """The old threshold and the new one sign; what is signed by the lost key alone is refused."""
    people.begun()
    new = people.key("d", "root")
    others = [people.key(one, "root") for one in "ab"]
    drafted = ceremonies.draft_root(
        people.repository(),
        root=Signers(keys=[*others, new]),
        targets=Signers(),
        online=None,
        now=now(),
    )
    with pytest.raises(RefusedError, match="the old root"):
        drafted.signed_by(people.of("d")).files()
    assert people.put(drafted, "a", "d", "b") == ()
    root = people.repository().root.signed
    assert root.version == 2
    assert set(root.roles["root"].keyids) == {one.keyid for one in (*others, new)}
    assert root.roles["root"].threshold == 2
    people.publish("1.0.0", people.of("publisher"))


def test_new_targets_keys_come_with_targets_that_they_signed(people: People) -> None:
    """Root and targets are put together: no client ever sees one without the other."""
    people.begun()
    key = people.key("b", "targets")
    drafted = ceremonies.draft_root(
        people.repository(),
        root=Signers(),
        targets=Signers(keys=[key]),
        online=None,
        now=now(),
    )
    assert set(drafted.documents) == {"2.root.json", "2.targets.json"}
    people.put(drafted, "a", "b")
    repository = people.repository()
    assert repository.root.signed.roles["targets"].keyids == [key.keyid]
    assert set(repository.targets.signatures) == {key.keyid}


def test_a_stolen_publisher_key_is_replaced_without_a_gap(people: People) -> None:
    """The new key signs everything anew in the same ceremony; the old one signs nothing more."""
    people.begun()
    people.publish("1.0.0", people.of("publisher"))
    new = people.key("heir", "ns_team")
    drafted = ceremonies.draft_targets(
        people.repository(), namespaces={"team": Signers(keys=[new])}, online=None, now=now()
    )
    assert people.put(drafted, "a", "heir") == ()
    assert set(targets_of(people).signatures) == {new.keyid}
    with pytest.raises(RefusedError, match="needs 1 signatures"):
        people.publish("1.1.0", people.of("publisher"))
    people.publish("1.1.0", _with_root(people, "heir"))
    assert len(targets_of(people).signed.targets) == 2


def test_a_new_namespace_begins_empty(people: People) -> None:
    """Its publisher signs its first document in the ceremony that names it."""
    people.begun()
    key = people.key("eye", "ns_vision")
    drafted = ceremonies.draft_targets(
        people.repository(), namespaces={"vision": Signers(keys=[key])}, online=None, now=now()
    )
    assert set(drafted.documents) == {"2.targets.json", "1.ns_vision.json"}
    people.put(drafted, "a", "eye")
    repository = people.repository()
    assert repository.document("ns_vision", repository.targets) is not None
    with pytest.raises(UsageError, match="say which keys"):
        ceremonies.draft_targets(repository, namespaces={"ears": Signers()}, online=None, now=now())


def test_a_namespace_is_signed_for_another_year(people: People) -> None:
    """The same targets, the next version, a later expiry; the publisher alone is needed."""
    people.begun()
    people.publish("1.0.0", people.of("publisher"))
    before = targets_of(people).signed
    people.put(ceremonies.draft_namespace(people.repository(), "team", now=now()), "publisher")
    after = targets_of(people).signed
    assert after.targets == before.targets
    assert after.version == before.version + 1
    assert after.expires >= before.expires
    with pytest.raises(NotFoundError):
        ceremonies.draft_namespace(people.repository(), "nobody", now=now())


def test_a_folder_carries_a_ceremony_between_people(people: People, tmp_path: Path) -> None:
    """Each reads what the one before wrote; nothing but the folder is needed to sign."""
    drafted = people.begin()
    folder = tmp_path / "ceremony"
    ceremonies.write(drafted, folder)
    with pytest.raises(ConflictError):
        ceremonies.write(drafted, folder)
    for one in ("a", "c", "publisher"):
        ceremonies.write(
            ceremonies.open_folder(folder).signed_by(people.of(one)), folder, replace=True
        )
    with pytest.raises(RefusedError, match="wanted"):
        ceremonies.open_folder(folder).signed_by(people.of("a"))
    people.fleet.metadata.put(ceremonies.open_folder(folder).files())


def test_a_ceremony_that_was_overtaken_is_refused(people: People) -> None:
    """Two ceremonies from the same state: the second is told to begin again."""
    people.begun()
    one = ceremonies.draft_namespace(people.repository(), "team", now=now())
    other = ceremonies.draft_namespace(people.repository(), "team", now=now())
    people.put(one, "publisher")
    with pytest.raises(ConflictError):
        people.put(other, "publisher")


def test_one_key_under_two_ids_is_no_second_person(people: People) -> None:
    """Refused when it is drafted, not first by whoever counts signatures."""
    twin = people.key("a", "root")
    again = Key.from_dict("f" * 64, twin.to_dict())
    with pytest.raises(RefusedError, match="one and the same"):
        ceremonies.draft_first(
            people.fleet.metadata.newest_online(),
            root=Signers(keys=[twin, again], threshold=2),
            targets=Signers(keys=[twin]),
            namespaces={"team": Signers(keys=[twin])},
            now=now(),
        )


def test_a_forged_folder_is_not_put(people: People, tmp_path: Path) -> None:
    """A document that was changed after it was signed has no good signature left."""
    people.begun()
    drafted = ceremonies.draft_namespace(people.repository(), "team", now=now())
    folder = tmp_path / "ceremony"
    ceremonies.write(drafted.signed_by(people.of("publisher")), folder)
    path = folder / "2.ns_team.json"
    later = re.sub(rb'"expires":"20[0-9]{2}', b'"expires":"2099', path.read_bytes())
    assert later != path.read_bytes()
    path.write_bytes(later)
    with pytest.raises(RefusedError, match="lacks 1 of 1"):
        ceremonies.open_folder(folder).files()
