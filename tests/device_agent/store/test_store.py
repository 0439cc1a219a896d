"""The store as a whole: formats, slots, trees, blobs, proofs and what is collected."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

import pytest

from device_agent.errors import StateError
from device_agent.store import Slot, Store
from device_agent.store.collect import collect
from device_agent.store.filesystem import FileSystem
from device_agent.store.partial import Partial
from device_agent.store.quota import PLANS_FOLDER, room, used_bytes
from edge_sdk.base import Digest, FormatError, NotFoundError, ProofError
from tests.support.artifacts import ArtifactBytes, make_artifact, noise
from tests.support.recording_files import Cut, RecordingFiles

MIB = 1 << 20
SHARED = noise(2000, "labels")
V1 = make_artifact({"sub/deep/w.bin": noise(3000, "one"), "labels": SHARED, "empty": b""})
V2 = make_artifact({"sub/deep/w.bin": noise(3000, "two"), "labels": SHARED}, version="2.0.0")


def hold(store: Store, artifact: ArtifactBytes) -> Digest:
    """Puts an artifact here as an update does."""
    digest = artifact.artifact
    store.artifacts.put(digest, artifact.document)
    missing = [one for one in artifact.manifest.files if not store.blobs.has(one.digest)]
    for entry in missing:
        part = store.root / "part"
        part.write_bytes(artifact.files[entry.path])
        store.blobs.place(part, entry.digest)
    store.trees.build(digest, artifact.manifest)
    return digest


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "state")


def test_an_artifact_is_held_proved_and_offered_under_its_names(store: Store) -> None:
    """Blob, manifest and tree agree; shared files exist once and are read-only."""
    for artifact in (V1, V2):
        hold(store, artifact)
        store.prove(artifact.artifact)
    assert set(store.held()) == {V1.artifact, V2.artifact}
    tree = store.tree(V1.artifact)
    assert {path: (tree / path).read_bytes() for path in V1.files} == dict(V1.files)
    one, two = (store.tree(v.artifact) / "labels" for v in (V1, V2))
    assert one.stat().st_ino == two.stat().st_ino
    assert one.stat().st_mode & 0o222 == 0
    assert store.trees.is_whole(V1.artifact, V1.manifest)
    assert store.manifest(V1.artifact) == V1.manifest


@pytest.mark.parametrize("path", sorted(V1.files))
def test_a_changed_byte_is_found_and_named(store: Store, path: str) -> None:
    """Whatever file of the tree was changed, the proof names it."""
    hold(store, V1)
    file = store.tree(V1.artifact) / path
    file.chmod(0o644)
    file.write_bytes(V1.files[path] + b"x")
    with pytest.raises(ProofError) as wrong:
        store.prove(V1.artifact)
    assert wrong.value.facts["path"] == str(file)
    assert len(store.rotten_files(V1.artifact)) == 1


def test_what_cannot_be_read_is_not_proved(store: Store) -> None:
    """A missing file, a damaged manifest and an unknown artifact are ProofErrors."""
    hold(store, V1)
    (store.tree(V1.artifact) / "labels").unlink()
    with pytest.raises(ProofError, match="labels"):
        store.prove(V1.artifact)
    assert not store.trees.is_whole(V1.artifact, V1.manifest)
    store.trees.build(V1.artifact, V1.manifest)
    store.prove(V1.artifact)
    store.artifacts.path(V1.artifact).write_bytes(b"{}")
    with pytest.raises(ProofError, match="changed on this device"):
        store.prove(V1.artifact)
    assert not store.is_held(V1.artifact)
    with pytest.raises(ProofError):
        store.prove(V2.artifact)
    with pytest.raises(NotFoundError):
        store.manifest(V2.artifact)
    with pytest.raises(ProofError):
        store.artifacts.put(V2.artifact, V1.document)


class FailingReads(FileSystem):
    """Each read of a file that ``errors`` has an errno for fails, once for each number."""

    def __init__(self) -> None:
        self.errors: dict[str, list[int]] = {}

    def open_read(self, path: Path) -> BinaryIO:
        left = self.errors.get(path.name)
        if left:
            number = left.pop(0)
            raise OSError(number, errno.errorcode[number], str(path))
        return super().open_read(path)


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.EACCES]
)
def test_what_fails_around_a_file_is_not_its_rot(tmp_path: Path, number: int) -> None:
    """Where descriptors, memory or a right is missing, nothing was found out: an OSError."""
    files = FailingReads()
    store = Store.create(tmp_path / "s", files=files)
    hold(store, V1)
    entry = V1.manifest.file("labels")
    assert entry is not None
    for name in (str(entry.digest), "labels"):
        files.errors[name] = [number]
    with pytest.raises(OSError) as wrong:
        store.rotten_files(V1.artifact)
    assert wrong.value.errno == number
    with pytest.raises(OSError):
        store.prove(V1.artifact)
    assert store.rotten_files(V1.artifact) == ()
    store.prove(V1.artifact)


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADMSG, errno.EUCLEAN])
def test_a_file_that_its_medium_refuses_twice_is_rotten(tmp_path: Path, number: int) -> None:
    """One refusal may pass; a second one means that the file cannot be read here any more."""
    files = FailingReads()
    store = Store.create(tmp_path / "s", files=files)
    hold(store, V1)
    entry = V1.manifest.file("labels")
    assert entry is not None
    for refusals, wanted in ((1, ()), (2, (entry.digest,))):
        files.errors[str(entry.digest)] = [number] * refusals
        assert store.rotten_files(V1.artifact) == wanted
    files.errors["labels"] = [number]
    store.prove(V1.artifact)
    files.errors["labels"] = [number] * 2
    with pytest.raises(ProofError, match="labels"):
        store.prove(V1.artifact)


@pytest.mark.parametrize("kind", ["missing", "link", "folder"])
def test_a_blob_that_is_no_file_is_rotten(store: Store, kind: str) -> None:
    """Missing, a link, or a folder in its place."""
    hold(store, V1)
    entry = V1.manifest.file("labels")
    assert entry is not None
    path = store.blobs.path(entry.digest)
    path.rename(store.root / "elsewhere")
    if kind == "link":
        path.symlink_to(store.root / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    assert store.rotten_files(V1.artifact) == (entry.digest,)


def test_a_repaired_blob_is_linked_into_the_same_tree(store: Store) -> None:
    """Quarantined, brought again, mended: the folder stays, an open file stays valid."""
    hold(store, V1)
    entry = V1.manifest.file("labels")
    assert entry is not None
    path = store.tree(V1.artifact) / "labels"
    store.blobs.quarantine(entry.digest)
    store.blobs.quarantine(entry.digest)
    assert not store.is_held(V1.artifact)
    with pytest.raises(NotFoundError):
        store.trees.build(V1.artifact, V1.manifest)
    before = path.stat().st_ino
    hold(store, V1)
    assert path.stat().st_ino != before
    store.prove(V1.artifact)


def test_format_numbers(tmp_path: Path, store: Store) -> None:
    """One release older or newer is read; others, and no number, are refused by name."""
    number = store.root / "FORMAT"
    for kept in ("0\n", "2\n"):
        number.write_text(kept)
        Store.create(store.root)
    for kept in ("9\n", "x", ""):
        number.write_text(kept)
        with pytest.raises(StateError):
            Store.create(store.root)


def test_slots_are_kept_and_read_back(store: Store) -> None:
    """Sorted by model, with what a start serves; names that are no models are refused."""
    digest, other = Digest.of(b"a"), Digest.of(b"b")
    slots = [
        Slot(model="team/b", active=digest, previous=other, on_probation=True),
        Slot(model="team/a.tmp", active=digest),
    ]
    for slot in slots:
        store.slot_files.put(slot)
    assert Store(store.root).slots() == tuple(sorted(slots, key=lambda one: one.model))
    assert slots[0].starts_with == other
    assert slots[1].starts_with == digest
    assert Slot(model="team/c", active=digest, on_probation=True).starts_with is None
    store.slot_files.remove("team/b")
    assert store.slot_files.get("team/b") is None
    with pytest.raises(FormatError):
        store.slot_files.get("../../etc/passwd")


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b"{}", b'{"format":1,"model":"team/x"}'])
def test_a_damaged_slot_is_no_slot(store: Store, content: bytes) -> None:
    """Zeros, emptiness and other files name nothing, and are listed as unreadable."""
    store.slot_files.put(Slot(model="team/a", active=Digest.of(b"a")))
    path = store.slot_files.path("team/a")
    path.write_bytes(content)
    assert store.slots() == ()
    assert store.slot_files.all_or_none() is None


def test_a_slot_written_by_a_newer_release_is_read(store: Store) -> None:
    """Unknown keys are passed over: an operating system may be rolled back."""
    store.slot_files.put(Slot(model="team/a", active=Digest.of(b"a")))
    path = store.slot_files.path("team/a")
    path.write_bytes(path.read_bytes()[:-1] + b',"later":1}')
    assert store.slots()[0].active == Digest.of(b"a")


def test_a_slot_that_does_not_read_back_is_an_error(tmp_path: Path) -> None:
    """Success of a switch is a fact, not a return code (35)."""

    class Forgetful(RecordingFiles):
        def read(self, path: Path) -> bytes:
            return b"" if path.parent.parent.name == "slots" else super().read(path)

    store = Store.create(tmp_path / "s", files=Forgetful())
    with pytest.raises(StateError):
        store.slot_files.put(Slot(model="team/a", active=Digest.of(b"a")))


def test_the_order_of_placing_a_tree(tmp_path: Path) -> None:
    """Blobs are durable before the tree, the tree before its name."""
    files = RecordingFiles()
    store = Store.create(tmp_path / "s", files=files)
    files.log.clear()
    hold(store, V2)
    operations = files.operations()
    first_link, last_place = operations.index("link"), len(operations) - 1
    assert "sync_file" in operations[:first_link]
    assert operations[last_place - 1 :] == ["rename", "sync_folder"]
    assert "rename" not in operations[first_link : last_place - 1]


def test_c22_collecting_keeps_what_is_reachable(store: Store) -> None:
    """Slots, kept and coming artifacts stay; everything else goes."""
    third = make_artifact({"w": noise(500, "three")}, version="3.0.0")
    for artifact in (V1, V2, third):
        hold(store, artifact)
    store.slot_files.put(Slot(model="team/digits", active=V2.artifact))
    (store.partial_folder / str(V1.artifact)).mkdir()
    (store.root / "blobs" / "x.rotten").write_bytes(b"")
    (store.root / "trees" / "x.tmp").mkdir()
    (store.root / "trees" / "y.tmp").write_bytes(b"")
    done = collect(store, keep=[third.artifact], partial=[])
    assert set(store.held()) == {V2.artifact, third.artifact}
    assert (done.artifacts, done.partials) == (1, 1)
    for artifact in (V2, third):
        store.prove(artifact.artifact)
    assert {path.name for path in (store.root / "trees").iterdir()} == {
        str(V2.artifact),
        str(third.artifact),
    }
    assert len(list((store.root / "blobs").iterdir())) == 3


def test_collecting_can_be_cut_anywhere(tmp_path: Path) -> None:
    """After each cut what is reachable proves, and the next time ends the work."""
    cut_at = 0
    while True:
        root = tmp_path / str(cut_at)
        store = Store.create(root)
        hold(store, V1)
        hold(store, V2)
        store.slot_files.put(Slot(model="team/digits", active=V2.artifact))
        files = RecordingFiles(cut_at=cut_at)
        try:
            collect(Store(root, files=files), keep=[], partial=[])
        except Cut:
            store.prove(V2.artifact)
            collect(store, keep=[], partial=[])
            done = False
        else:
            done = True
        store.prove(V2.artifact)
        assert store.held() == (V2.artifact,)
        assert store.trees.all() == (V2.artifact,)
        if done:
            break
        cut_at += 1
    assert cut_at > 5


def test_collecting_stops_when_told(store: Store) -> None:
    """``go_on`` is asked before each removal."""
    hold(store, V1)
    done = collect(store, keep=[], partial=[], go_on=lambda: False)
    assert (done.trees, done.artifacts, done.blobs) == (0, 0, 0)
    store.prove(V1.artifact)


def test_blobs_stay_where_a_needed_manifest_or_slot_is_unreadable(store: Store) -> None:
    """What cannot be known to be unneeded is not removed."""
    hold(store, V1)
    store.slot_files.put(Slot(model="team/digits", active=V1.artifact))
    good = store.artifacts.path(V1.artifact).read_bytes()
    store.artifacts.path(V1.artifact).write_bytes(b"rot")
    assert collect(store, keep=[], partial=[]).blobs == 0
    store.artifacts.path(V1.artifact).write_bytes(good)
    store.slot_files.path("team/digits").write_bytes(b"")
    assert collect(store, keep=[], partial=[]).blobs == 0
    assert len(store.blobs.all()) == 3


def test_room(store: Store) -> None:
    """The smaller of disk and quota, less the reserve; links cost nothing."""
    hold(store, V1)
    used = used_bytes(store)
    assert used == 5000
    (store.root / PLANS_FOLDER).mkdir(mode=0o700)
    (store.root / PLANS_FOLDER / "one.plan").write_bytes(bytes(300))
    assert used_bytes(store) == 5300
    (store.root / PLANS_FOLDER / "one.plan").unlink()
    assert room(store, quota_bytes=6000, reserve_bytes=0).free_bytes == 1000
    assert room(store, quota_bytes=100, reserve_bytes=0).free_bytes == 0
    free = room(store, quota_bytes=0, reserve_bytes=0).free_bytes
    assert room(store, quota_bytes=0, reserve_bytes=free + 10 * MIB).free_bytes == 0


def test_a_full_disk_while_placing_keeps_the_partial(tmp_path: Path) -> None:
    """What was proved stays for the next try."""
    files = RecordingFiles()
    store = Store.create(tmp_path / "s", files=files)
    partial = Partial(store, V1.artifact, V1.manifest.files, frozenset())
    partial.open()
    for number, entry in enumerate(V1.manifest.files):
        partial.write(number, 0, memoryview(V1.files[entry.path]))
    partial.chunk_proved(partial.chunks_total - 1)
    partial.sync()
    files.fail = lambda name, arguments: errno.ENOSPC if name == "rename" else None
    with pytest.raises(OSError):
        partial.place()
    files.fail = lambda name, arguments: None
    again = Partial(store, V1.artifact, V1.manifest.files, frozenset())
    assert again.open() == again.chunks_total
    again.place()
    assert len(store.blobs.all()) == 3
