"""Looking for newer metadata: from the factory root, over what was marked, on a bad disk too."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from tuf.ngclient import Updater

from device_agent.store.filesystem import FileSystem
from device_agent.trust.client import TrustedMetadata, size_max
from device_agent.trust.fetcher import GuardedFetcher, from_source
from edge_sdk import trust
from edge_sdk.base import ResourceError, TrustError, UnavailableError
from tests.support.metadata_files import MetadataFiles
from tests.support.trust import SignedFleet
from tests.support.unsynced_files import UnsyncedFiles

HOUR = timedelta(hours=1)


class Rig:
    """``fleet`` signs, ``client`` looks; ``at`` is what the device's clock shows."""

    def __init__(self, folder: Path, files: FileSystem | None = None) -> None:
        self.fleet = SignedFleet()
        self.source = MetadataFiles(self.fleet.files)
        self.folder = folder / "trust"
        self.folder.mkdir()
        self.at = datetime.now(timezone.utc)
        self.client = self.restarted(files)

    def restarted(self, files: FileSystem | None = None) -> TrustedMetadata:
        self.client = TrustedMetadata(
            self.folder,
            self.fleet.root,
            GuardedFetcher(from_source(self.source), size_max=size_max),
            files=files or UnsyncedFiles(),
            clock=lambda: self.at,
        )
        return self.client

    def renew(self) -> None:
        """A new timestamp over the same snapshot."""
        data = self.fleet.newest("snapshot")
        version = trust.read("snapshot", data, trust.kind_of("snapshot")).signed.version
        self.fleet.put_timestamp((version, data))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_is_overridden_is_there() -> None:
    """python-tuf promises nothing about these: a release without them must not pass unseen."""
    for name, arguments in {
        "_persist_file": ["self", "filename", "data"],
        "_update_root_symlink": ["self"],
        "_load_timestamp": ["self"],
    }.items():
        assert list(inspect.signature(getattr(Updater, name)).parameters) == arguments
    for caller in ("_persist_metadata", "_persist_root"):
        assert "self._persist_file(" in inspect.getsource(getattr(Updater, caller))
    assert "self._load_timestamp()" in inspect.getsource(Updater.refresh)


def test_the_257th_root_is_seen(rig: Rig) -> None:
    """The client alone would stop there at every look, and say nothing."""
    root = trust.read("root", rig.fleet.root, trust.kind_of("root"))
    for _ in range(258):
        root = trust.edited(root, expires=rig.fleet.at + timedelta(days=365))
        rig.fleet.put_root(root, rig.fleet.root_keys)
    rig.client.refresh()
    assert rig.source.asked[257] == "259.root.json"
    assert rig.source.asked[258:260] == ["260.root.json", "timestamp.json"]


def test_the_wire_is_asked_for_little(rig: Rig) -> None:
    """The second look asks only for the two files that may be new."""
    rig.client.refresh()
    rig.source.asked.clear()
    rig.client.refresh()
    assert rig.source.asked == ["2.root.json", "timestamp.json"]


def test_nothing_is_written_twice(tmp_path: Path) -> None:
    """A look that finds nothing new writes nothing: flash wears out."""

    class Counting(UnsyncedFiles):
        writes = 0

        def write(self, path: Path, data: bytes) -> None:
            self.writes += 1
            super().write(path, data)

    files = Counting()
    rig = Rig(tmp_path, files)
    rig.client.refresh()
    before = files.writes
    rig.client.refresh()
    assert before > 0
    assert files.writes == before


def test_an_old_repository_is_refused_though_the_cache_is_gone(rig: Rig) -> None:
    """Marks are what remembers."""
    old = dict(rig.fleet.files)
    rig.renew()
    rig.client.refresh()
    for path in sorted((rig.folder / "metadata").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    rig.source.files = old
    with pytest.raises(TrustError) as refused:
        rig.restarted().refresh()
    assert refused.value.facts["check"] == "BadVersionNumberError"
    rig.source.files = rig.fleet.files
    rig.client.refresh()


@pytest.mark.parametrize(
    "place",
    [
        "metadata",
        "metadata/root.json",
        "metadata/root_history",
        "metadata/root_history/1.root.json",
        "metadata/timestamp.json",
        "metadata/targets.json",
        "metadata/snapshot.json",
        "marks",
        "marks/a",
        "marks/b/timestamp.json",
        "marks/a/1.root.json",
    ],
)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_else_in_its_place(rig: Rig, place: str, kind: str) -> None:
    """A folder where a file should be, a file where a folder should be: the next look mends it."""
    rig.client.refresh()
    path = rig.folder / place
    for one in sorted(path.rglob("*"), reverse=True):
        one.rmdir() if one.is_dir() else one.unlink()
    path.rmdir() if path.is_dir() else path.unlink()
    if kind == "folder":
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "file").write_bytes(b"x")
    else:
        path.write_bytes(b"neither this nor that")
    rig.renew()
    rig.restarted().refresh()
    rig.source.files = {}
    with pytest.raises(UnavailableError):
        rig.restarted().refresh()


class BadDisk(UnsyncedFiles):
    """Fails every write with ``number``, while it is set."""

    number = 0

    def write(self, path: Path, data: bytes) -> None:
        self._fail(path)
        super().write(path, data)

    def make_folder(self, path: Path) -> None:
        self._fail(path)
        super().make_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self._fail(target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._fail(path)
        super().unlink(path)

    def _fail(self, path: Path) -> None:
        if self.number:
            raise OSError(self.number, errno.errorcode[self.number], str(path))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("before", [True, False])
def test_full_and_read_only_disks(tmp_path: Path, number: int, before: bool) -> None:
    """A typed error, nothing lost, and all is well as soon as the disk is; cache gone or not."""
    files = BadDisk()
    rig = Rig(tmp_path, files)
    if before:
        rig.client.refresh()
        for path in (rig.folder / "metadata").glob("*.json"):
            path.unlink()
    rig.renew()
    files.number = number
    for _ in range(2):
        with pytest.raises(ResourceError):
            rig.client.refresh()
    files.number = 0
    rig.client.refresh()


def test_a_device_in_1970_updates_and_recovers(rig: Rig) -> None:
    """Nothing has expired then; the first timestamp that is verified says what time it is."""
    rig.at = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert rig.client.refresh().now == rig.fleet.at
    assert rig.restarted().refresh().now == rig.fleet.at
    # Offered again when it has long expired, by whoever keeps newer ones back:
    rig.fleet.at += timedelta(hours=30)
    rig.renew()
    rig.client.refresh()
    rig.fleet.at += timedelta(days=8)
    rig.renew()
    with pytest.raises(TrustError, match=r"snapshot\.json is expired"):
        rig.restarted().refresh()
    rig.at = datetime.now(timezone.utc)
    with pytest.raises(TrustError, match="expired"):
        rig.restarted().refresh()


def test_the_bound_goes_with_the_key(rig: Rig) -> None:
    """Whoever stole the timestamp key can say it is 2090: a new key makes it today again."""
    rig.client.refresh()
    honest = rig.fleet.at
    rig.fleet.at = datetime(2090, 1, 1, tzinfo=timezone.utc)
    rig.renew()
    with pytest.raises(TrustError, match="expired"):
        rig.client.refresh()
    rig.fleet.at = honest
    root = trust.read("root", rig.fleet.root, trust.kind_of("root"))
    rig.fleet.timestamp_key = SignedFleet().timestamp_key
    keys = [rig.fleet.timestamp_key.public_key]
    rig.fleet.put_root(trust.with_keys(root, "timestamp", keys, 1, honest), rig.fleet.root_keys)
    rig.renew()
    assert rig.restarted().refresh().now < honest + HOUR


def test_a_clock_ahead_does_no_lasting_harm(rig: Rig) -> None:
    """Twenty years ahead everything has expired; with the right time nothing has."""
    rig.client.refresh()
    right = rig.at
    rig.at += timedelta(days=20 * 365)
    with pytest.raises(TrustError, match="expired"):
        rig.client.refresh()
    rig.at = right
    rig.client.refresh()


def test_expired_metadata_recover_by_themselves(rig: Rig) -> None:
    """Off for nine months: as soon as newer metadata are there, they are taken."""
    rig.client.refresh()
    rig.at += timedelta(days=270)
    with pytest.raises(TrustError, match=r"timestamp\.json is expired"):
        rig.client.refresh()
    rig.fleet.at = rig.at
    data = trust.next_snapshot(
        {},
        trust.read("snapshot", rig.fleet.newest("snapshot"), trust.kind_of("snapshot")),
        now=rig.at,
    )
    signed = trust.sign(data, [rig.fleet.snapshot_key])
    rig.fleet.files[f"{data.signed.version}.snapshot.json"] = signed
    rig.fleet.put_timestamp((data.signed.version, signed))
    rig.client.refresh()


def test_what_cannot_be_had_is_no_refusal(rig: Rig) -> None:
    """A distributor that is away: nothing is wrong with what it serves."""

    class Away:
        def fetch(self, name: str) -> Iterator[bytes]:
            raise UnavailableError("away")
            yield b""

    rig.source = Away()  # type: ignore[assignment]
    with pytest.raises(UnavailableError) as failed:
        rig.restarted().refresh()
    assert "check" not in failed.value.facts


def test_the_factory_root_must_be_one(rig: Rig, tmp_path: Path) -> None:
    """Anything else is refused before anybody is asked."""
    broken = TrustedMetadata(
        rig.folder, b"{}", GuardedFetcher(from_source(rig.source), size_max=size_max)
    )
    with pytest.raises(TrustError):
        broken.refresh()
    assert rig.source.asked == []
