"""Deltas are built once each, by workers that may die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sqlalchemy import delete

from distributor.builds import Builder, capability_of
from distributor.catalog import add_artifact, find_deltas, missing_blobs
from distributor.errors import BuildFailedError
from distributor.planning import DeltaJob
from distributor.storage import Blobs, Database, upgrade
from distributor.storage.tables import deltas
from edge_sdk.base import ProofError
from edge_sdk.delta import METHODS
from tests.support.artifacts import ArtifactBytes, changed, make_artifact, noise
from tests.support.build_jobs import break_down, die
from tests.support.catalog import AT_MS, url_of

BASE = noise(200_000)
FIRST = make_artifact({"m.bin": BASE})
SECOND = make_artifact({"m.bin": changed(BASE)}, version="2.0.0", parent="1.0.0")


def _job(source: ArtifactBytes | None = FIRST, target: ArtifactBytes = SECOND) -> DeltaJob:
    return DeltaJob(
        source=None if source is None else source.artifact,
        target=target.artifact,
        methods=tuple(sorted(METHODS)),
        memory_limit_bytes=64 << 20,
    )


class _Place:
    """A builder with everything it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(url_of(folder))
        self.blobs = Blobs(folder / "objects")
        self.builder = Builder(self.database, self.blobs, folder / "work", workers=1)

    async def add(self, artifact: ArtifactBytes) -> None:
        async def parts(data: bytes) -> AsyncIterator[bytes]:
            yield data

        async with self.blobs.stage() as staging:
            for entry in artifact.manifest.files:
                await staging.write(entry.digest, parts(artifact.files[entry.path]))
            await staging.keep()
        await self.database.write(
            add_artifact, artifact.document, artifact.manifest, at_ms=AT_MS, by="alice"
        )


@asynccontextmanager
async def _place(folder: Path) -> AsyncIterator[_Place]:
    place = _Place(folder)
    try:
        await asyncio.to_thread(upgrade, place.database)
        await place.add(FIRST)
        await place.add(SECOND)
        yield place
    finally:
        await place.builder.close()
        place.database.close()


def _workers() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [one for one in found if "spawn_main" in " ".join(one.cmdline())]


def test_built_once_however_many_ask(tmp_path: Path) -> None:
    """Ten callers at once start one build and get one delta, which is then cached."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            found = await asyncio.gather(*(place.builder.build(_job()) for _ in range(10)))
            assert len(set(found)) == 1
            assert place.builder.builds_started == 1
            assert await place.builder.build(_job()) == found[0]
            assert place.builder.builds_started == 1
            assert await place.blobs.size(found[0].delta) == found[0].size_bytes
            stored = await place.database.read(find_deltas, SECOND.artifact)
            assert stored == [found[0]]
            assert stored[0].capability == capability_of(_job())
            assert list((tmp_path / "work").iterdir()) == []

    asyncio.run(act())


def test_a_caller_that_leaves_does_not_stop_the_build(tmp_path: Path) -> None:
    """Others still get the delta that the first one asked for."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            first = asyncio.create_task(place.builder.build(_job()))
            while not place.builder.builds_started:
                await asyncio.sleep(0.01)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await place.builder.build(_job())
            assert place.builder.builds_started == 1

    asyncio.run(act())


def test_a_failure_is_typed_and_remembered_for_a_while(tmp_path: Path) -> None:
    """A rotten blob fails the build; who asks again at once gets the same answer, unbuilt."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            rotten = place.blobs.path(SECOND.manifest.files[0].digest)
            rotten.chmod(0o644)
            rotten.write_bytes(b"rot")
            for _ in range(2):
                with pytest.raises(ProofError, match="damaged"):
                    await place.builder.build(_job())
            assert place.builder.builds_started == 1
            assert await place.builder.settled(_job())
            assert await place.database.read(find_deltas, SECOND.artifact) == []
            wanted = [entry.digest for entry in SECOND.manifest.files]
            assert await place.database.read(missing_blobs, wanted) == wanted

    asyncio.run(act())


def test_a_delta_that_rots_is_forgotten_and_built_again(tmp_path: Path) -> None:
    """Reading deltas again finds the damaged and the lost one, and leaves the others."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            delta, whole = await place.builder.build(_job()), await place.builder.build(_job(None))
            assert await place.builder.recheck(SECOND.artifact) == 0
            rotten = place.blobs.path(delta.delta)
            rotten.chmod(0o644)
            data = bytearray(rotten.read_bytes())
            data[len(data) // 2] ^= 1
            rotten.write_bytes(data)
            place.builder.recheck_soon(SECOND.artifact)
            place.builder.recheck_soon(SECOND.artifact)
            while await place.builder.settled(_job()):
                await asyncio.sleep(0.01)
            assert await place.database.read(find_deltas, SECOND.artifact) == [whole]
            again = await place.builder.build(_job())
            assert again == replace(delta, build_ms=again.build_ms, built_ms=again.built_ms)
            assert await place.blobs.intact(delta.delta)
            place.blobs.path(whole.delta).unlink()
            assert await place.builder.recheck(SECOND.artifact) == 1

    asyncio.run(act())


def test_a_worker_that_dies_costs_one_more_try(tmp_path: Path) -> None:
    """A worker killed in the middle breaks the pool; the job is done again, alone."""
    big = noise(4 << 20, "big")
    first = make_artifact({"m.bin": big}, model="team/big")
    second = make_artifact({"m.bin": changed(big)}, model="team/big", version="2.0.0")

    async def act() -> None:
        async with _place(tmp_path) as place:
            await place.add(first)
            await place.add(second)
            await place.builder.build(_job())
            killed = [one.pid for one in _workers()]
            task = asyncio.create_task(place.builder.build(_job(first, second)))
            while not list((tmp_path / "work").iterdir()):
                await asyncio.sleep(0.01)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            delta = await task
            assert await place.blobs.size(delta.delta) == delta.size_bytes
            await place.builder.build(_job(None, SECOND))

    asyncio.run(act())


def test_a_job_that_kills_its_workers_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the second worker dies too, that job fails with a reason, and the next one works."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            with monkeypatch.context() as patched:
                patched.setattr("distributor.builds.builder.build_delta", die)
                with pytest.raises(BuildFailedError, match="died twice"):
                    await place.builder.build(_job())
            await place.builder.build(_job(None, SECOND))

    asyncio.run(act())


def test_a_defect_is_a_failed_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not ours reaches the caller as a typed one."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            monkeypatch.setattr("distributor.builds.builder.build_delta", break_down)
            with pytest.raises(BuildFailedError, match="LookupError: a defect"):
                await place.builder.build(_job())

    asyncio.run(act())


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    """A builder that is closed leaves no process and no half-built delta."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            task = asyncio.create_task(place.builder.build(_job()))
            while not _workers():
                await asyncio.sleep(0.01)
            await place.builder.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert _workers() == []
            assert not any((tmp_path / "work").glob("*"))

    asyncio.run(act())


def test_a_lost_row_is_built_again(tmp_path: Path) -> None:
    """A delta whose row is gone is built again to the same bytes: blobs are content-addressed."""

    async def act() -> None:
        async with _place(tmp_path) as place:
            first = await place.builder.build(_job())
            await place.database.write(lambda connection: connection.execute(delete(deltas)))
            second = await place.builder.build(_job())
            assert second.delta == first.delta
            assert place.builder.builds_started == 2

    asyncio.run(act())
