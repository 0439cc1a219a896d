"""What a device keeps of its identity: private, whole at every cut, and its own."""

from __future__ import annotations

import errno
import stat
import time
from pathlib import Path

import pytest

from device_agent.errors import StateError
from device_agent.identity import KeptIdentity, Marks
from device_agent.store import Store
from edge_sdk.identity import EnrolmentToken, Issued, make_key, make_request, read_request, to_pem
from tests.support.recording_files import Cut, RecordingFiles

TOKEN = EnrolmentToken(
    enrolment_address="127.0.0.1:7445",
    address="127.0.0.1:7443",
    kind="device",
    name="",
    authority="01" * 32,
    root="",
    uses=1,
    expires_s=0,
    secret="ab" * 32,
)

distributor = pytest.mark.distributor


def _issued(key: bytes, name: str = "gate-7") -> Issued:
    from distributor.identity import issue_client, make_authority

    authority = make_authority()
    request = read_request(make_request(key, "device", name))
    made = issue_client(authority, request, now_s=time.time(), life_s=3600)
    return Issued(certificate=to_pem([made]), authorities=authority.certificate)


@distributor
def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """Folder 0700, files 0600; a key left open to others by whoever made it is closed."""
    store = Store.create(tmp_path)
    kept = KeptIdentity(store)
    kept.keep(_issued(kept.begin(TOKEN, "gate-7")))
    Marks(store).next()
    assert stat.S_IMODE(kept.root.stat().st_mode) == 0o700
    names = {one.name: stat.S_IMODE(one.stat().st_mode) for one in kept.root.iterdir()}
    assert set(names.values()) == {0o600}, names
    assert {"key.pem", "certificate.pem", "ca.pem", "marks"} <= set(names)


def test_rights_of_others_are_taken_away(tmp_path: Path) -> None:
    """A folder into which others can write and a key that they can read are closed, and said;
    the device goes on. Where that fails it goes on too."""
    store = Store.create(tmp_path)
    kept = KeptIdentity(store)
    said: list[str] = []
    kept.close_to_others(said.append)  # nothing there yet
    kept.begin(TOKEN, "gate-7")
    kept.close_to_others(said.append)
    assert said == []
    kept.root.chmod(0o777)
    (kept.root / "key.pem").chmod(0o644)
    kept.close_to_others(said.append)
    assert ["mode 0777" in said[0], "mode 0644" in said[1]] == [True, True]
    assert stat.S_IMODE(kept.root.stat().st_mode) == 0o755
    assert stat.S_IMODE((kept.root / "key.pem").stat().st_mode) == 0o600
    said.clear()
    kept.close_to_others(said.append)
    assert said == []


def test_rights_that_cannot_be_taken_away(tmp_path: Path) -> None:
    """A disk that refuses is said, and stops nothing."""
    files = RecordingFiles()
    store = Store.create(tmp_path, files=files)
    kept = KeptIdentity(store)
    kept.begin(TOKEN, "gate-7")
    files.fail = lambda name, _: errno.EROFS if name == "close_to_others" else None
    said: list[str] = []
    kept.close_to_others(said.append)
    assert "cannot be changed" in said[0]


@distributor
def test_a_cut_anywhere(tmp_path: Path) -> None:
    """After a power cut at any write there is an identity, or none and the same key to go on."""
    count = None
    cut = 0
    while count is None or cut < count:
        root = tmp_path / str(cut)
        root.mkdir()
        Store.create(root)
        files = RecordingFiles(cut_at=cut)
        kept = KeptIdentity(Store(root, files=files))
        key = b""
        try:
            key = kept.begin(TOKEN, "gate-7")
            kept.keep(_issued(key))
            count = len(files.log)
        except Cut:
            pass
        again = KeptIdentity(Store(root))
        found = again.load()
        if found is None:
            finished = again.begin(TOKEN, "gate-7")
            assert not key or finished == key
            again.keep(_issued(finished))
            assert again.load() is not None
        cut += 1
    assert count > 10


@distributor
def test_a_renewal_that_is_cut(tmp_path: Path) -> None:
    """Whatever a power cut leaves of a renewal opens the door: old or new, never half."""
    store = Store.create(tmp_path)
    kept = KeptIdentity(store)
    key = kept.begin(TOKEN, "gate-7")
    kept.keep(_issued(key))
    for cut in range(8):
        files = RecordingFiles(cut_at=cut)
        try:
            KeptIdentity(Store(tmp_path, files=files)).keep(_issued(key))
        except Cut:
            found = KeptIdentity(store).load()
            assert found is not None
            assert found.facts.name == "gate-7"


@distributor
def test_damage_is_said(tmp_path: Path) -> None:
    """Damaged files end in an error that says what to do; nothing of them is shown."""
    store = Store.create(tmp_path)
    kept = KeptIdentity(store)
    assert kept.load() is None
    assert kept.shown().state == "none"
    key = kept.begin(TOKEN, "gate-7")
    assert kept.shown().state == "waiting"
    kept.keep(_issued(key))
    assert kept.shown().state == "enrolled"
    found = kept.load()
    for name in ("certificate.pem", "ca.pem", "enrolment.json"):
        whole = (kept.root / name).read_bytes()
        (kept.root / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StateError, match="enrol again") as refused:
            kept.load()
        assert "PRIVATE" not in str(refused.value)
        (kept.root / name).write_bytes(whole)
    (kept.root / "key.pem").unlink()
    with pytest.raises(StateError):
        kept.load()
    assert key.decode() not in repr(found)


def test_a_key_is_made_once(tmp_path: Path) -> None:
    """The same key is used by every attempt to enrol, so that the token's binding holds."""
    kept = KeptIdentity(Store.create(tmp_path))
    assert kept.begin(TOKEN, "gate-7") == kept.begin(TOKEN, "gate-7") != make_key()


def test_marks_are_a_chain(tmp_path: Path) -> None:
    """A mark is the same until it is answered, then a fresh one that names it; so after a cut."""
    store = Store.create(tmp_path)
    KeptIdentity(store).begin(TOKEN, "gate-7")
    marks = Marks(store)
    first = marks.next()
    assert marks.next() == first == Marks(store).next()
    marks.answered()
    second = marks.next()
    assert second[0] == first[1] != second[1]
    restarted = Marks(store)
    assert restarted.next() == second
    restarted.answered()
    assert restarted.next()[0] == second[1]


def test_marks_on_a_full_disk(tmp_path: Path) -> None:
    """Where no fresh mark can be kept, the one before is repeated: the device still checks in."""
    files = RecordingFiles()
    store = Store.create(tmp_path, files=files)
    KeptIdentity(store).begin(TOKEN, "gate-7")
    marks = Marks(store)
    first = marks.next()
    marks.answered()
    files.fail = lambda name, arguments: 28 if name == "write_private" else None
    assert marks.next() == first
    files.fail = lambda name, arguments: None
    assert marks.next()[0] == first[1]
