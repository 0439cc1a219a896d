"""Builds deltas in worker processes, each once, and puts them into blobs and catalog."""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from distributor.builds.job import (
    BuildFile,
    BuildOrder,
    BuiltDelta,
    build_delta,
    remove_build,
    start_worker,
)
from distributor.catalog import (
    CatalogDelta,
    add_delta,
    drop_delta,
    find_deltas,
    get_artifact,
    mark_damaged,
    missing_blobs,
)
from distributor.errors import BuildFailedError
from distributor.planning import DeltaJob
from distributor.storage import Blobs, Database
from edge_sdk.base import CHUNK_BYTES, Digest, EdgeError, ProofError, ResourceError
from edge_sdk.delta import FORMAT_VERSION

_REMEMBER_FAILURE_S = 30.0  # devices that ask again at once do not start the same failure again


def capability_of(job: DeltaJob) -> str:
    """The capability set that a delta is cached under: format version, methods, memory."""
    methods = "+".join(job.methods)
    return f"v{FORMAT_VERSION} {methods} {job.memory_limit_bytes}"


class Room(Protocol):
    """Who sees to it that there is room for one more delta."""

    def ask(self, job: DeltaJob) -> None:
        """Somebody asks for it, and is about to use it."""

    async def make(self, size_bytes: int) -> None:
        """Within the budget of all deltas, before one of so many bytes is stored."""

    async def free(self, size_bytes: int) -> int:
        """On a disk that is full; how many bytes came free."""


class Boundless:
    """No budget, and nothing that could go."""

    def ask(self, job: DeltaJob) -> None:
        pass

    async def make(self, size_bytes: int) -> None:
        pass

    async def free(self, size_bytes: int) -> int:
        return 0


class Builder:
    """Where deltas come from. ``build`` may be awaited by any number of callers for one job."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        work: Path,
        *,
        workers: int,
        room: Room | None = None,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._work = work
        self._workers = workers
        self._room = room or Boundless()
        self._clock_s = clock_s
        self._pool: Executor | None = None
        self._alone = asyncio.Lock()
        self._running: dict[DeltaJob, asyncio.Task[CatalogDelta]] = {}
        self._rechecks: dict[Digest, asyncio.Task[int]] = {}
        self._failed: dict[DeltaJob, tuple[float, EdgeError]] = {}
        self.builds_started = 0

    async def build(self, job: DeltaJob) -> CatalogDelta:
        """The delta of ``job``: from the catalog, from a build under way, or built now.

        A caller that is cancelled leaves the build running for the others.
        Raises: BuildFailedError, ProofError, ResourceError, NotFoundError.
        """
        self._room.ask(job)
        cached = await self._database.read(_cached, job)
        if cached is not None:
            return cached
        error = await self._failed_lately(job)
        if error is not None:
            raise error
        task = self._running.get(job)
        if task is None:
            task = asyncio.create_task(self._build(job))
            self._running[job] = task
            task.add_done_callback(lambda done: self._ended(job, done))
        return await asyncio.shield(task)

    async def settled(self, job: DeltaJob) -> bool:
        """Whether ``build`` would answer at once: it is built, or it failed a moment ago."""
        if await self._failed_lately(job) is not None:
            return True
        return await self._database.read(_cached, job) is not None

    async def recheck(self, target: Digest) -> int:
        """Reads every delta to ``target`` again; forgets those whose bytes are damaged.

        A device that could not decode or prove what it got says so, and asks again: without
        this it would get the same bytes for ever. Returns how many were forgotten.
        """
        damaged = 0
        for delta in await self._database.read(find_deltas, target):
            if await self._blobs.intact(delta.delta):
                continue
            await self._database.write(drop_delta, delta.delta)
            damaged += 1
        return damaged

    def recheck_soon(self, target: Digest) -> None:
        """``recheck`` in the background, once however many devices complain."""
        if target not in self._rechecks:
            task = asyncio.create_task(self.recheck(target))
            self._rechecks[target] = task
            task.add_done_callback(lambda _: self._rechecks.pop(target, None))

    async def _failed_lately(self, job: DeltaJob) -> EdgeError | None:
        at_s, error = self._failed.get(job, (0.0, None))
        if error is None or time.monotonic() - at_s >= _REMEMBER_FAILURE_S:
            return None
        if isinstance(error, ProofError):
            # Publishing the damaged file again mends it at once.
            damaged = [Digest.parse(error.facts["wanted"])]
            return error if await self._database.read(missing_blobs, damaged) else None
        return error

    async def close(self) -> None:
        """Ends the builds under way, whose work is thrown away, and the workers."""
        tasks = [*self._running.values(), *self._rechecks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._pool is not None:
            await asyncio.to_thread(_end_pool, self._pool)
            self._pool = None

    def _ended(self, job: DeltaJob, task: asyncio.Task[CatalogDelta]) -> None:
        self._running.pop(job, None)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, EdgeError):
            self._failed[job] = (time.monotonic(), error)
        else:
            self._failed.pop(job, None)

    async def _build(self, job: DeltaJob) -> CatalogDelta:
        # Somebody may have finished it between the caller's look and this task.
        cached = await self._database.read(_cached, job)
        if cached is not None:
            return cached
        order = await self._order(job)
        try:
            return await self._run_and_store(job, order)
        except ProofError as error:
            # Publishing that version again brings the file anew.
            damaged = Digest.parse(error.facts["wanted"])
            await self._database.write(mark_damaged, damaged)
            raise
        except EdgeError:
            raise
        except Exception as error:
            raise BuildFailedError(
                f"a delta could not be built: {type(error).__name__}: {error}"
            ) from error
        finally:
            await asyncio.to_thread(remove_build, order)

    async def _run_and_store(self, job: DeltaJob, order: BuildOrder) -> CatalogDelta:
        try:
            return await self._store(job, await self._run(order))
        except ResourceError as error:
            if error.facts.get("short") != "disk":
                raise
            # What it wrote so far goes first: the catalog needs some room to forget the rest.
            await asyncio.to_thread(remove_build, order)
            if not await self._room.free(sum(file.blob.stat().st_size for file in order.target)):
                raise
        return await self._store(job, await self._run(order))

    async def _order(self, job: DeltaJob) -> BuildOrder:
        return BuildOrder(
            source=None if job.source is None else await self._files(job.source),
            target=await self._files(job.target),
            methods=job.methods,
            memory_limit_bytes=job.memory_limit_bytes,
            folder=self._work / secrets.token_hex(8),
        )

    async def _files(self, artifact: Digest) -> tuple[BuildFile, ...]:
        manifest = (await self._database.read(get_artifact, artifact)).manifest()
        return tuple(
            BuildFile(path=one.path, blob=self._blobs.path(one.digest), digest=one.digest)
            for one in manifest.files
        )

    async def _run(self, order: BuildOrder) -> BuiltDelta:
        self.builds_started += 1
        if self._pool is None:
            self._pool = _new_pool(self._workers)
        pool = self._pool
        try:
            return await asyncio.wrap_future(pool.submit(build_delta, order))
        except BrokenProcessPool:
            # One worker that dies (out of memory, a crash in native code) takes the whole
            # pool's jobs with it. Each is tried once more, alone, so that only the one to
            # blame fails.
            if self._pool is pool:
                self._pool = None
                await asyncio.to_thread(_end_pool, pool)
        async with self._alone:
            return await self._run_alone(order)

    async def _run_alone(self, order: BuildOrder) -> BuiltDelta:
        await asyncio.to_thread(remove_build, order)
        pool = _new_pool(1)
        try:
            return await asyncio.wrap_future(pool.submit(build_delta, order))
        except BrokenProcessPool:
            raise BuildFailedError(
                "the worker process that built a delta died twice; is there memory enough?"
            ) from None
        finally:
            await asyncio.to_thread(_end_pool, pool)

    async def _store(self, job: DeltaJob, built: BuiltDelta) -> CatalogDelta:
        await self._room.make(built.size_bytes)
        delta = CatalogDelta(
            source=job.source,
            target=job.target,
            capability=capability_of(job),
            delta=built.digest,
            size_bytes=built.size_bytes,
            decoder_memory_bytes=built.decoder_memory_bytes,
            methods=built.methods,
            build_ms=built.build_ms,
            built_ms=int(self._clock_s() * 1000),
        )
        async with self._blobs.stage() as staging:
            await staging.write(built.digest, _read(built.path))
            async with self._blobs.settling:
                await staging.keep()
                return await self._database.write(add_delta, delta)


def _cached(connection: Connection, job: DeltaJob) -> CatalogDelta | None:
    found = find_deltas(connection, job.target, capability=capability_of(job))
    return next((one for one in found if one.source == job.source), None)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # Spawned: a forked child of a process that runs gRPC is broken (dependencies.md rule 7).
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)


def _end_pool(pool: Executor) -> None:
    """Ends a pool at once: what its workers do now is of no use to anybody."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as stream:
        while part := await asyncio.to_thread(stream.read, CHUNK_BYTES):
            yield part
