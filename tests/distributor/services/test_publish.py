"""A publish is proved byte for byte and appears whole, or leaves nothing."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from distributor.storage import Staging
from edge_sdk.base import (
    ConflictError,
    Digest,
    EdgeError,
    FormatError,
    NotFoundError,
    ProofError,
    ResourceError,
    UnavailableError,
    UsageError,
    explain_os_error,
)
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.rpc import typed_errors
from tests.support.artifacts import ArtifactBytes, make_artifact, noise
from tests.support.fleet_server import (
    FleetServer,
    fleet_server,
    publish,
    publish_parts,
    wait_until,
)

BIG = make_artifact({"labels.txt": b"0 1 2", "m.bin": noise(2_500_000), "none": b""})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    with fleet_server(tmp_path_factory.mktemp("publish") / "data") as one:
        yield one


def _send(server: FleetServer, messages: Iterator[fleet.PublishRequest]) -> fleet.PublishResponse:
    with typed_errors("the distributor"):
        return server.operator().Publish(messages, timeout=60)


def _objects(server: FleetServer) -> set[str]:
    return {path.name for path in (server.config.data / "objects").rglob("*") if path.is_file()}


def _versions(server: FleetServer, model: str) -> list[str]:
    found = server.operator().ListModels(fleet.ListModelsRequest(model=model), timeout=30)
    return [one.version for one in found.artifacts]


def _refused(
    server: FleetServer,
    artifact: ArtifactBytes,
    messages: Iterator[fleet.PublishRequest],
    error: type[EdgeError],
    text: str,
) -> None:
    """The publish ends with ``error`` and neither a row nor a byte stays."""
    before = _objects(server)
    with pytest.raises(error, match=text):
        _send(server, messages)
    assert _objects(server) == before
    assert str(artifact.manifest.version) not in _versions(server, str(artifact.manifest.model))


def test_published_and_listed(server: FleetServer) -> None:
    """What was published is listed with its manifest; the same again creates nothing."""
    stub = server.operator()
    first = publish(stub, BIG)
    assert (first.artifact, first.created) == (BIG.artifact.raw, True)
    again = publish(stub, BIG)
    assert (again.artifact, again.created) == (BIG.artifact.raw, False)
    # A client that sends all of it a second time is answered the same way.
    assert not _send(server, publish_parts(BIG)).created
    found = stub.ListModels(fleet.ListModelsRequest(), timeout=30).artifacts
    assert [one.manifest for one in found if one.model == "team/digits"] == [BIG.document]


def test_any_frame_size(server: FleetServer) -> None:
    """Frames need not fit chunks."""
    for size in (1_000, 700_001, 3_000_000):
        one = make_artifact({"m.bin": noise(2_200_000, f"{size}")}, model=f"team/frame-{size}")
        assert _send(server, publish_parts(one, frame_bytes=size)).created


def test_other_content_under_the_same_name(server: FleetServer) -> None:
    """A version and variant that is there with other content is a conflict."""
    publish(server.operator(), BIG)
    other = make_artifact({"m.bin": b"other"})
    before = _objects(server)
    with pytest.raises(ConflictError, match="other content"):
        _send(server, publish_parts(other))
    assert _objects(server) == before


def test_an_unknown_parent(server: FleetServer) -> None:
    """A version cannot descend from one that is not there."""
    one = make_artifact({"m.bin": b"x"}, model="team/orphan", version="2.0.0", parent="1.0.0")
    _refused(server, one, publish_parts(one), NotFoundError, "publish it first")


@pytest.mark.parametrize("at", [0, 1_048_575, 1_048_576, 2_499_999])
def test_one_changed_byte_is_a_failed_proof(server: FleetServer, at: int) -> None:
    """A byte that differs from the manifest, wherever it is, ends the publish."""
    honest = make_artifact({"a.bin": b"fine", "m.bin": noise(2_500_000)}, model="team/changed")
    data = bytearray(honest.files["m.bin"])
    data[at] ^= 1
    lying = ArtifactBytes(manifest=honest.manifest, files={"a.bin": b"fine", "m.bin": bytes(data)})
    _refused(server, honest, publish_parts(lying), ProofError, "not what the manifest says")


def test_a_wrong_plain_sha256(server: FleetServer) -> None:
    """The plain SHA-256 of a file is checked at publish too."""
    from dataclasses import replace

    honest = make_artifact({"m.bin": noise(1_048_577)}, model="team/plain")
    entry = replace(honest.manifest.files[0], sha256=Digest.of(b"other"))
    lying = ArtifactBytes(manifest=replace(honest.manifest, files=(entry,)), files=honest.files)
    _refused(server, lying, publish_parts(lying), ProofError, "SHA-256 of m.bin")


def test_too_short_and_too_long(server: FleetServer) -> None:
    """A file with bytes missing or left over is a failed proof."""
    honest = make_artifact({"m.bin": noise(1_048_576 * 2)}, model="team/length")
    for data in (
        noise(1_048_576),
        noise(1_048_576 * 2)[:-1],
        honest.files["m.bin"] + b"x",
    ):
        lying = ArtifactBytes(manifest=honest.manifest, files={"m.bin": data})
        _refused(server, honest, publish_parts(lying), ProofError, "m.bin")


def test_missing_files(server: FleetServer) -> None:
    """A publish that leaves out a file which is not here can be tried again."""
    one = make_artifact({"a": b"first", "b": b"second"}, model="team/missing")
    left_out = [entry.digest for entry in one.manifest.files if entry.path == "b"]
    _refused(server, one, publish_parts(one, without=left_out), UnavailableError, "bytes of b")


def test_a_shared_file_need_not_come_again(server: FleetServer) -> None:
    """A file that another artifact brought is not missing any more."""
    stub = server.operator()
    publish(stub, make_artifact({"a": b"shared", "b": b"one"}, model="team/shared"))
    second = make_artifact({"a": b"shared", "b": b"two"}, model="team/shared", version="2.0.0")
    wanted = [entry.digest.raw for entry in second.manifest.files]
    missing = stub.MissingFiles(fleet.MissingFilesRequest(digests=wanted), timeout=30).digests
    assert list(missing) == [wanted[1]]
    assert publish(stub, second).created


def test_misuse_of_the_stream(server: FleetServer) -> None:
    """No manifest first, two manifests, strange files, gaps: each is refused by name."""
    one = make_artifact({"m.bin": noise(200_000)}, model="team/misuse")
    head, *frames = publish_parts(one)
    strange = fleet.PublishRequest(frame=fleet.FileFrame(digest=b"\1" * 32, data=b"x"))
    cases: list[tuple[list[fleet.PublishRequest], type[EdgeError], str]] = [
        ([], UsageError, "begins with its manifest"),
        (frames, UsageError, "begins with its manifest"),
        ([head, head], UsageError, "begins with its manifest"),
        ([head, strange], UsageError, "not in the manifest"),
        ([head, frames[1]], UsageError, "expected 0"),
        ([head, frames[0], frames[0]], UsageError, "expected 65536"),
        ([fleet.PublishRequest(manifest=b"{}")], FormatError, "manifest"),
    ]
    for messages, error, text in cases:
        _refused(server, one, iter(messages), error, text)


def test_a_publisher_that_goes_away(server: FleetServer) -> None:
    """A stream that breaks off in the middle leaves nothing."""
    one = make_artifact({"m.bin": noise(2_000_000)}, model="team/gone")
    before = _objects(server)

    def broken() -> Iterator[fleet.PublishRequest]:
        parts = publish_parts(one)
        for _ in range(20):
            yield next(parts)
        raise RuntimeError("the cable")

    with pytest.raises(grpc.RpcError):
        server.operator().Publish(broken(), timeout=30)
    wait_until(lambda: _objects(server) == before)  # the server hears of it a moment later
    assert _versions(server, "team/gone") == []


def test_a_publisher_that_goes_away_at_the_last_moment(
    server: FleetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once every byte is proved it is kept whole: no file is left that no row speaks of."""
    one = make_artifact({"a": noise(1000, "a"), "m.bin": noise(200_000, "b")}, model="team/last")
    before = _objects(server)
    at_it, go_on = threading.Event(), threading.Event()
    keep = Staging.keep

    async def slow(staging: Staging) -> None:
        at_it.set()
        await asyncio.to_thread(go_on.wait, 30)
        await keep(staging)

    monkeypatch.setattr(Staging, "keep", slow)
    call = server.operator().Publish.future(publish_parts(one), timeout=30)
    assert at_it.wait(30)
    call.cancel()
    go_on.set()
    wait_until(lambda: _versions(server, "team/last") == ["1.0.0"])
    kept = {str(entry.digest) for entry in one.manifest.files}
    wait_until(lambda: _objects(server) == before | kept)


def test_a_damaged_file_is_mended_by_publishing_again(tmp_path: Path) -> None:
    """After a stored file rots, a build says so, the file is missing, and the same publish
    brings it again."""
    one = make_artifact({"a": b"kept", "m.bin": noise(200_000)})
    with fleet_server(tmp_path / "data") as server:
        stub = server.operator()
        publish(stub, one)
        digest = one.manifest.files[1].digest
        blob = server.config.data / "objects" / "blobs" / str(digest)[:2] / str(digest)
        blob.chmod(0o644)
        blob.write_bytes(b"rot")
        device = server.device("cam-1")
        device.check_in()
        again = pytest.raises(EdgeError, match="publish that version again")
        with again, typed_errors("the distributor"):
            device.plan(one.artifact)
        wanted = [entry.digest.raw for entry in one.manifest.files]
        missing = stub.MissingFiles(fleet.MissingFilesRequest(digests=wanted), timeout=30).digests
        assert list(missing) == [digest.raw]
        assert not publish(stub, one).created
        assert blob.read_bytes() == one.files["m.bin"]


def test_a_full_disk_takes_versions_before_deltas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full, deltas that nobody needs make room, and the publish succeeds when
    it is sent again, as clients do by themselves; where nothing can go, it says that it is full.
    Neither leaves anything half-done."""
    first = make_artifact({"m.bin": noise(200_000, "1")})
    second = make_artifact({"m.bin": noise(200_000, "2")}, version="2.0.0")
    third = make_artifact({"m.bin": noise(200_000, "3")}, version="3.0.0")
    with fleet_server(tmp_path / "data") as server:
        quota_of_staging(server.config.data / "objects", 500_000, monkeypatch)
        publish(server.operator(), first)
        server.serving.keeper.asked_s = 0.0
        device = server.device("cam-1")
        device.check_in()
        whole = device.plan(first.artifact).steps[0]
        with pytest.raises(UnavailableError, match="made room"):
            _send(server, publish_parts(second))
        assert _versions(server, "team/digits") == ["1.0.0"]
        assert len(_objects(server)) == 1
        assert _send(server, publish_parts(second)).created
        with pytest.raises(ResourceError, match="no space"):
            _send(server, publish_parts(third))
        assert _versions(server, "team/digits") == ["1.0.0", "2.0.0"]
        with pytest.raises(NotFoundError), typed_errors("the distributor"):
            device.fetch(whole.delta)


def quota_of_staging(folder: Path, most_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on what is staged meets a full disk where ``folder`` holds that much."""
    write = Staging.write

    async def within_quota(self: Staging, digest: Digest, parts: AsyncIterator[bytes]) -> None:
        await write(self, digest, parts)
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if stored > most_bytes:
            raise explain_os_error(OSError(errno.ENOSPC, "no space left"), folder)

    monkeypatch.setattr(Staging, "write", within_quota)
