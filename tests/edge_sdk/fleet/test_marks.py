"""What a publisher saw is not forgotten: nothing is signed over an older state of a fleet."""

from __future__ import annotations

import copy
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import Root

from edge_sdk import trust
from edge_sdk.base import FormatError, NotFoundError, RefusedError, TrustError, UsageError
from edge_sdk.fleet import TrustMarks
from edge_sdk.fleet.repository import Repository
from tests.support.artifacts import make_artifact
from tests.support.trust import SignedFleet, new_key


@pytest.fixture
def fleet() -> SignedFleet:
    return SignedFleet()


@pytest.fixture
def marks(tmp_path: Path) -> TrustMarks:
    return TrustMarks(tmp_path / "home" / "trust")


def look(
    marks: TrustMarks,
    fleet: SignedFleet,
    *,
    root: bytes | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Repository:
    def get(name: str) -> bytes:
        if name not in fleet.files:
            raise NotFoundError(f"no {name}")
        return fleet.files[name]

    known = marks.load()
    repository = Repository(get, root or fleet.root, fleet.at)
    meanwhile()
    marks.follow(repository, known)
    return repository


def publish(fleet: SignedFleet, version: str) -> None:
    fleet.publish(make_artifact({"m.bin": version.encode()}, version=version).document)


def older(fleet: SignedFleet) -> SignedFleet:
    """What is served now, to be shown again later; both go on with the same keys."""
    return copy.deepcopy(fleet)


def with_next_root(fleet: SignedFleet, **keys: object) -> None:
    """A root that names other keys for the roles given."""
    root = trust.verify_root(fleet.newest("root"), None) if len(fleet.files) < 5 else None
    root = root or trust.read("root", fleet.newest("root"), Root)
    if not keys:
        root = trust.edited(root, expires=fleet.at + trust.LONG)
    version = root.signed.version
    for role, key in keys.items():
        root = trust.with_keys(root, role, [key.public_key], 1, fleet.at)  # type: ignore[attr-defined]
        root.signed.version = version + 1
    fleet.put_root(root, fleet.root_keys)


def test_a_whole_older_repository(fleet: SignedFleet, marks: TrustMarks) -> None:
    """What was served before, valid as it is, is refused; the same and newer are taken."""
    past = older(fleet)
    publish(fleet, "1.0.0")
    look(marks, fleet)
    look(marks, fleet)
    with pytest.raises(TrustError, match=r"metadata timestamp.*version 2 was seen") as refused:
        look(marks, past)
    assert refused.value.facts == {"role": "timestamp", "check": "rollback", "shown": 1, "seen": 2}
    publish(fleet, "2.0.0")
    look(marks, fleet)


def test_an_older_document_under_new_online_metadata(fleet: SignedFleet, marks: TrustMarks) -> None:
    """Who holds the online keys cannot bring an older document of a namespace back."""
    past = older(fleet)
    publish(fleet, "1.0.0")
    look(marks, fleet)
    for _ in range(3):
        past.put([])  # newer snapshots and timestamps, over the older document
    with pytest.raises(TrustError, match="metadata ns_team: the distributor shows version 1"):
        look(marks, past)


def test_another_document_of_the_same_version(fleet: SignedFleet, marks: TrustMarks) -> None:
    """Of two documents of one version that were signed in a race, only the one seen counts."""
    other = older(fleet)
    publish(fleet, "1.0.0")
    publish(other, "2.0.0")
    look(marks, fleet)
    other.put([])
    with pytest.raises(TrustError, match="another document as its version 2"):
        look(marks, other)


def test_a_root_that_is_withheld(fleet: SignedFleet, marks: TrustMarks) -> None:
    """Where a newer root was seen, the distributor cannot go on with the one before."""
    past = older(fleet)
    with_next_root(fleet)
    look(marks, fleet)
    past.put([])
    with pytest.raises(TrustError, match="metadata root: the distributor shows version 1"):
        look(marks, past)


def test_replaced_online_keys_begin_anew(fleet: SignedFleet, marks: TrustMarks) -> None:
    """What stolen online keys signed far ahead has no weight once a root replaced them."""
    honest = older(fleet)
    for _ in range(9):
        fleet.put([])
    look(marks, fleet)
    honest.snapshot_key, honest.timestamp_key = new_key(), new_key()
    with_next_root(honest, snapshot=honest.snapshot_key, timestamp=honest.timestamp_key)
    honest.put([])
    repository = look(marks, honest)
    assert repository.timestamp.signed.version < 9
    look(marks, honest)


def test_what_was_put_from_here(fleet: SignedFleet, marks: TrustMarks) -> None:
    """A version that the distributor took from here cannot be denied by it, though no snapshot
    with it was seen; one that names it makes the note needless."""
    past = older(fleet)
    repository = look(marks, fleet)
    publish(fleet, "1.0.0")
    marks.put([repository.root], {"ns_team": 2})
    past.put([])
    with pytest.raises(TrustError, match=r"ns_team.*version 1 of it, where version 2"):
        look(marks, past)
    look(marks, fleet)
    assert [one.put for one in marks.load().seen.values()] == [{}]


def test_somebody_else_was_faster(fleet: SignedFleet, marks: TrustMarks) -> None:
    """What was fetched before another publisher here saw more is no attack, and takes nothing
    of what was seen back."""
    past = older(fleet)
    look(marks, fleet)
    publish(fleet, "1.0.0")
    look(marks, past, meanwhile=lambda: look(marks, fleet))
    with pytest.raises(TrustError, match="was seen before"):
        look(marks, past)


def test_publishers_at_once(fleet: SignedFleet, marks: TrustMarks) -> None:
    """Many at once leave one whole mark, of the newest."""
    threads = [threading.Thread(target=look, args=(marks, fleet)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    publish(fleet, "1.0.0")
    look(marks, fleet)
    assert [one.timestamp_version for one in marks.load().seen.values()] == [2]


def test_fleets_are_known_by_their_roots(
    fleet: SignedFleet, tmp_path: Path, marks: TrustMarks
) -> None:
    """Two fleets are kept apart; from a later root of one it is still the same fleet."""
    said: list[str] = []
    marks = TrustMarks(marks.folder, said.append)
    look(marks, fleet)
    look(marks, SignedFleet())
    assert len(said) == 2
    assert "for the first time" in said[0]
    with_next_root(fleet)
    look(marks, fleet)
    look(marks, fleet, root=fleet.files["2.root.json"])
    assert len(said) == 2
    assert len(marks.load().seen) == 2


def test_a_damaged_mark_is_no_first_time(fleet: SignedFleet, marks: TrustMarks) -> None:
    """Whatever becomes of the file, it is refused until a person says what to do."""
    look(marks, fleet)
    (file,) = marks.load().seen
    whole = file.read_bytes()
    for damaged in (b"", whole[:-9], b"[]", whole.replace(b'"timestamp":"', b'"timestamp":"AAAA')):
        file.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"damaged.*put a copy back"):
            look(marks, fleet)
    file.write_bytes(whole)
    look(marks, fleet)


def test_a_damaged_mark_of_another_fleet(fleet: SignedFleet, marks: TrustMarks) -> None:
    """Who has a mark that is whole goes on; a fleet that has none yet might be whose it was."""
    other = SignedFleet()
    look(marks, other)
    (file,) = marks.load().seen
    look(marks, fleet)
    whole = file.read_bytes()
    file.write_bytes(b"")
    past = older(fleet)
    publish(fleet, "1.0.0")
    look(marks, fleet)
    with pytest.raises(TrustError, match="was seen before"):
        look(marks, past)
    for one in (other, SignedFleet()):
        with pytest.raises(FormatError, match="damaged"):
            look(marks, one)
    file.write_bytes(whole)
    look(marks, other)


def test_a_folder_that_cannot_be_read_is_not_empty(
    fleet: SignedFleet, marks: TrustMarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is found there, which must not be taken for a first time (mode 0300)."""
    past = older(fleet)
    publish(fleet, "1.0.0")
    look(marks, fleet)
    scandir = os.scandir

    def refused(path: object = ".") -> object:
        if str(path) == str(marks.folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refused)
        with pytest.raises(UsageError, match="no permission for"):
            look(marks, past)
    with pytest.raises(TrustError, match="was seen before"):
        look(marks, past)


def test_the_folder_of_another_user(
    fleet: SignedFleet, marks: TrustMarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in it is believed, and nothing is written there."""
    look(marks, fleet)
    nobody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: nobody)
    with pytest.raises(RefusedError, match="belongs to another user"):
        marks.load()
    with pytest.raises(RefusedError, match="belongs to another user"):
        marks.put([trust.read("root", fleet.newest("root"), Root)], {"ns_team": 9})


def test_a_lock_that_is_a_link(fleet: SignedFleet, marks: TrustMarks, tmp_path: Path) -> None:
    """What it leads to is neither opened nor emptied; nor is a lock."""
    look(marks, fleet)
    lock, precious = marks.folder / ".lock", tmp_path / "precious"
    lock.write_text("somebody's")
    look(marks, fleet)
    assert lock.read_text() == "somebody's"
    precious.write_text("precious")
    lock.unlink()
    lock.symlink_to(precious)
    with pytest.raises(UsageError, match=r"\.lock cannot be used"):
        look(marks, fleet)
    assert precious.read_text() == "precious"


def test_files_are_for_their_owner(fleet: SignedFleet, marks: TrustMarks) -> None:
    """Nobody else can read or change what was seen."""
    look(marks, fleet)
    (file,) = marks.load().seen
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(marks.folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(fleet: SignedFleet, tmp_path: Path) -> None:
    """What cannot be marked is refused: it would be forgotten."""
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="no permission"):
        look(TrustMarks(tmp_path / "closed" / "trust"), fleet)


def test_a_file_in_the_way(fleet: SignedFleet, tmp_path: Path) -> None:
    """A file where the folder should be is a typed error."""
    (tmp_path / "trust").write_bytes(b"")
    with pytest.raises(UsageError):
        look(TrustMarks(tmp_path / "trust"), fleet)
