"""A published artifact is proved as a device would: whatever does not hold is said and refused."""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_sdk.base import NotFoundError, ProofError, ResourceError, TrustError
from edge_sdk.fleet import Draft, Fleet, KeyFolder, proving
from edge_sdk.fleet.cli import main
from tests.support.commands import run_main
from tests.support.signed_fleet import first_keys, key_folder

if TYPE_CHECKING:
    from tests.support.fleet_server import FleetServer

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the distributor needs 3.11")

SIZE = (1 << 20) + 5  # two chunks


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FleetServer]:
    from tests.support.fleet_server import fleet_server

    with fleet_server(tmp_path / "data") as one:
        yield one


@pytest.fixture
def keys(server: FleetServer, tmp_path: Path) -> KeyFolder:
    return first_keys(server.serving.operator_address, tmp_path / "keys", "team")


@pytest.fixture
def fleet(server: FleetServer, keys: KeyFolder, tmp_path: Path) -> Iterator[Fleet]:
    """With ``team/digits 1.0.0`` published and signed: a folder of two files."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"a" * SIZE)
    (folder / "b.bin").write_bytes(b"b")
    with Fleet(server.serving.operator_address, operator="ada", keys=keys) as one:
        one.publish(folder, draft("1.0.0", entry="a.bin"))
        yield one


def draft(version: str, **facts: object) -> Draft:
    facts = {"model": "team/digits", "variant": "fp32", "serve": "none"} | facts
    return Draft(version=version, **facts)  # type: ignore[arg-type]


def root_of(keys: KeyFolder) -> bytes:
    root = keys.root()
    assert root is not None
    return root


def blob_of(server: FleetServer, data: bytes) -> Path:
    """Where the distributor keeps a file of these bytes."""
    (found,) = [
        one
        for one in (server.config.data / "objects").rglob("*")
        if one.is_file() and one.stat().st_size == len(data) and one.read_bytes() == data
    ]
    return found


def test_what_was_published_holds(fleet: Fleet, keys: KeyFolder) -> None:
    """Signature, manifest and every byte of both files, which are counted as they come."""
    counted: list[int] = []
    (one,) = fleet.prove("team/digits", "1.0.0", root=root_of(keys), advance=counted.append)
    assert one.target == "team/digits/1.0.0/fp32.json"
    assert (one.files, one.size_bytes, sum(counted)) == (2, SIZE + 1, SIZE + 1)
    assert one.artifact == fleet.models("team/digits")[0].artifact


def test_every_variant_or_one(fleet: Fleet, keys: KeyFolder, tmp_path: Path) -> None:
    """All variants of a version by default; the publisher's floor is told."""
    fleet.publish(tmp_path / "model" / "b.bin", draft("1.0.0", variant="int8", floor="1.0.0"))
    root = root_of(keys)
    proved = fleet.prove("team/digits", "1.0.0", root=root)
    assert [(one.variant, one.floor) for one in proved] == [("fp32", None), ("int8", "1.0.0")]
    assert len(fleet.prove("team/digits", "1.0.0", "int8", root=root)) == 1
    for version, variant in (("2.0.0", None), ("1.0.0", "int4")):
        with pytest.raises(NotFoundError):
            fleet.prove("team/digits", version, variant, root=root)


@pytest.mark.parametrize("change", ["a byte", "the end", "more"])
def test_changed_bytes_are_noticed(
    server: FleetServer, fleet: Fleet, keys: KeyFolder, change: str
) -> None:
    """A file in the distributor's store that is not what was signed fails the proof."""
    blob = blob_of(server, b"a" * SIZE)
    blob.chmod(0o600)
    changed = {
        "a byte": b"a" * (SIZE - 1) + b"x",
        "the end": b"a" * (SIZE - 1),
        "more": b"a" * SIZE + b"x",
    }[change]
    blob.write_bytes(changed)
    with pytest.raises(ProofError, match=r"not what its signed|damaged"):
        fleet.prove("team/digits", "1.0.0", root=root_of(keys))


def test_what_nobody_signed_is_refused(
    server: FleetServer, fleet: Fleet, keys: KeyFolder, tmp_path: Path
) -> None:
    """An artifact that is in the catalog but no target of its publisher is not proved."""
    with Fleet(server.serving.operator_address, operator="mallory") as unsigned:
        unsigned.publish(tmp_path / "model" / "b.bin", draft("6.6.6"))
    with pytest.raises(TrustError, match=r"nobody signed team/digits/6\.6\.6"):
        fleet.prove("team/digits", "6.6.6", root=root_of(keys))


def test_another_manifest_than_signed_is_refused(
    server: FleetServer, fleet: Fleet, keys: KeyFolder
) -> None:
    """A manifest that was exchanged in the catalog, well-formed as it may be, fails the proof."""
    from sqlalchemy import select, update

    from distributor.storage import Database
    from distributor.storage.tables import artifacts
    from tests.support.catalog import url_of

    database = Database(url_of(server.config.data))
    try:
        with database.transaction(write=True) as connection:
            (manifest,) = connection.execute(select(artifacts.c.manifest)).scalars()
            changed = manifest.replace(b"b.bin", b"c.bin")
            connection.execute(update(artifacts).values(manifest=changed))
    finally:
        database.close()
    with pytest.raises(ProofError, match="not the one that was signed"):
        fleet.prove("team/digits", "1.0.0", root=root_of(keys))


def test_another_root_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    """From a root of somebody else, or no root at all, nothing holds."""
    stranger = key_folder(tmp_path / "stranger")
    other = b"{}"
    assert stranger.root() is None
    with pytest.raises(TrustError, match="signed metadata do not hold"):
        fleet.prove("team/digits", "1.0.0", root=other)


def test_no_room_for_what_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room for temporary files is said so, not as something that is missing."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(ResourceError, match="TMPDIR"), proving._explained():
        raise FileNotFoundError(2, "No usable temporary directory found")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ResourceError, match="no space left"), proving._explained():
        raise OSError(errno.ENOSPC, "full")


def test_the_root_of_another_fleet_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    """The keys of this distributor's metadata are not those that another fleet's root names."""
    from tests.support.trust import SignedFleet

    with pytest.raises(TrustError):
        fleet.prove("team/digits", "1.0.0", root=SignedFleet().files["1.root.json"])


def test_the_command(
    server: FleetServer,
    fleet: Fleet,
    keys: KeyFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``edge-fleet verify`` says what held; without a root it refuses, unsigned it ends with 4."""
    monkeypatch.setenv("EDGE_FLEET_DISTRIBUTOR", server.serving.operator_address)
    (tmp_path / "root.json").write_bytes(root_of(keys))
    verify = ["verify", "team/digits", "1.0.0"]
    ran = run_main(main, [*verify, "--root", str(tmp_path / "root.json")], capsys, monkeypatch)
    assert ran.code == 0, ran.err
    assert "team/digits 1.0.0 fp32 holds: artifact" in ran.out
    assert run_main(main, verify, capsys, monkeypatch).code == 6
    monkeypatch.setenv("EDGE_FLEET_KEYS", str(keys.folder))
    document = run_main(main, [*verify, "--json"], capsys, monkeypatch).document
    assert document["proved"][0]["files"] == 2
    (tmp_path / "root.json").write_bytes(b"{}")
    ran = run_main(main, [*verify, "--root", str(tmp_path / "root.json")], capsys, monkeypatch)
    assert ran.code == 4
