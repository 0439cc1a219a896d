"""What one worker does: lay out, prove, encode, measure."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from distributor import builds
from distributor.builds import BuildFile, BuildOrder, build_delta
from distributor.builds.job import remove_build
from distributor.errors import BuildFailedError
from edge_sdk.base import Digest, EdgeError, ProofError
from edge_sdk.delta import METHODS, apply, inspect
from tests.support.artifacts import changed, entry_of, noise, proof_of


def _files(blobs: Path, files: dict[str, bytes]) -> tuple[BuildFile, ...]:
    made = []
    for path, data in sorted(files.items()):
        digest = entry_of(path, data).digest
        (blobs / str(digest)).write_bytes(data)
        made.append(BuildFile(path=path, blob=blobs / str(digest), digest=digest))
    return tuple(made)


@pytest.fixture
def order(tmp_path: Path) -> BuildOrder:
    base = noise(300_000)
    return BuildOrder(
        source=_files(tmp_path, {"m.bin": base, "text/labels.txt": b"0 1"}),
        target=_files(tmp_path, {"m.bin": changed(base), "text/labels.txt": b"0 1 2"}),
        methods=tuple(sorted(METHODS)),
        memory_limit_bytes=64 << 20,
        folder=tmp_path / "work" / "one",
    )


def test_the_delta_makes_the_target(order: BuildOrder, tmp_path: Path) -> None:
    """What is built turns the source's files into the target's, under their own names."""
    built = build_delta(order)
    assert built.size_bytes == built.path.stat().st_size < 100_000
    assert built.digest == proof_of(built.path)
    assert built.decoder_memory_bytes == inspect(built.path).memory_bytes <= 64 << 20
    assert set(built.methods) <= set(METHODS)
    apply(order.folder / "source", built.path, tmp_path / "out")
    for file in order.target:
        assert (tmp_path / "out" / file.path).read_bytes() == file.blob.read_bytes()


def test_the_whole_is_a_delta_from_nothing(order: BuildOrder, tmp_path: Path) -> None:
    """Without a source the same job makes the whole."""
    built = build_delta(replace(order, source=None))
    apply(None, built.path, tmp_path / "out")
    assert (tmp_path / "out" / "text" / "labels.txt").read_bytes() == b"0 1 2"


def test_no_byte_is_copied(order: BuildOrder) -> None:
    """The files of an artifact are links to blobs, which stay as they are."""
    before = [file.blob.read_bytes() for file in order.target]
    build_delta(order)
    linked = order.folder / "target" / "m.bin"
    assert linked.stat().st_ino == order.target[0].blob.stat().st_ino
    remove_build(order)
    assert not order.folder.exists()
    assert [file.blob.read_bytes() for file in order.target] == before


def test_a_rotten_blob_is_found(order: BuildOrder) -> None:
    """A stored file that is not what its name says ends the build with the file named."""
    order.target[0].blob.write_bytes(b"rot")
    with pytest.raises(ProofError, match="are damaged"):
        build_delta(order)


def test_only_typed_errors_leave_a_worker(order: BuildOrder) -> None:
    """Whatever goes wrong is an EdgeError: another one might break the pool."""
    gone = BuildFile(path="m.bin", blob=order.folder / "gone", digest=Digest.of(b""))
    for broken in (
        replace(order, target=(gone,)),
        replace(order, methods=()),
        replace(order, memory_limit_bytes=0),
        replace(order, memory_limit_bytes="many"),  # type: ignore[arg-type]
    ):
        with pytest.raises(EdgeError):
            build_delta(broken)
        remove_build(order)
    order.folder.mkdir(parents=True)
    with pytest.raises(BuildFailedError):
        build_delta(order)


def test_a_worker_starts_light() -> None:
    """What a worker process imports holds no database, no blob store and no server."""
    script = (
        "import sys, distributor.builds.job\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'obstore', 'grpc') "
        "if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_the_door_names_what_it_has() -> None:
    """The builder is found through the room's door; what is not there is an AttributeError."""
    assert all(getattr(builds, name) for name in builds.__all__)
    with pytest.raises(AttributeError):
        _ = builds.nothing
