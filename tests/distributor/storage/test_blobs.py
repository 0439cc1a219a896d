"""Blobs appear whole and named by their digest, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.storage import Blobs
from edge_sdk.base import CHUNK_BYTES, Digest, NotFoundError, ProofError
from tests.support.artifacts import noise, proof_of

NAME = Digest.of(b"a name")


async def _parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _put(blobs: Blobs, digest: Digest, *parts: bytes) -> None:
    async with blobs.stage() as staging:
        await staging.write(digest, _parts(*parts))
        await staging.keep()


async def _read(blobs: Blobs, digest: Digest, offset: int, end: int) -> bytes:
    return b"".join([bytes(part) async for part in blobs.stream(digest, offset, end)])


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_is_there(tmp_path: Path) -> None:
    """A blob has the bytes that were put, in any range, read-only on disk."""

    async def act() -> None:
        blobs = Blobs(tmp_path)
        data = noise(3 * CHUNK_BYTES + 17)
        await _put(blobs, NAME, data[:CHUNK_BYTES], data[CHUNK_BYTES:])
        assert await blobs.size(NAME) == len(data)
        assert await _read(blobs, NAME, 0, len(data)) == data
        assert await _read(blobs, NAME, 5, CHUNK_BYTES + 9) == data[5 : CHUNK_BYTES + 9]
        assert await _read(blobs, NAME, len(data), len(data)) == b""
        assert blobs.path(NAME).stat().st_mode & 0o222 == 0
        assert proof_of(blobs.path(NAME)) != NAME  # names are the caller's business

    asyncio.run(act())


def test_an_empty_blob(tmp_path: Path) -> None:
    """A blob without bytes is a blob."""

    async def act() -> None:
        blobs = Blobs(tmp_path)
        await _put(blobs, NAME)
        assert await blobs.size(NAME) == 0
        assert blobs.path(NAME).read_bytes() == b""

    asyncio.run(act())


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    """An exception among the bytes leaves neither a blob nor a part of one."""

    async def broken() -> AsyncIterator[bytes]:
        yield noise(20 << 20)
        raise ProofError("a chunk differs")

    async def act() -> None:
        blobs = Blobs(tmp_path)
        with pytest.raises(ProofError):
            async with blobs.stage() as staging:
                await staging.write(Digest.of(b"first"), _parts(b"whole"))
                await staging.write(NAME, broken())
        assert await blobs.size(NAME) is None
        assert await blobs.size(Digest.of(b"first")) is None

    asyncio.run(act())
    assert _files(tmp_path) == []


def test_what_is_not_kept_goes(tmp_path: Path) -> None:
    """Staged bytes without ``keep`` are gone when the block ends."""

    async def act() -> None:
        async with Blobs(tmp_path).stage() as staging:
            await staging.write(NAME, _parts(b"whole"))
            assert len(_files(tmp_path)) == 1

    asyncio.run(act())
    assert _files(tmp_path) == []


def test_keeping_twice_is_harmless(tmp_path: Path) -> None:
    """Two publishes of the same file end with one blob."""

    async def act() -> None:
        blobs = Blobs(tmp_path)
        await asyncio.gather(*(_put(blobs, NAME, b"same") for _ in range(5)))
        assert await _read(blobs, NAME, 0, 4) == b"same"

    asyncio.run(act())
    assert len(_files(tmp_path)) == 1


def test_sweep_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    """Staged files and obstore's own unfinished ones go; blobs stay."""

    async def act() -> None:
        blobs = Blobs(tmp_path)
        await _put(blobs, NAME, b"kept")
        left = tmp_path / "staging" / "0123"
        left.mkdir(parents=True)
        (left / str(NAME)).write_bytes(b"staged")
        (left / f"{NAME}#1").write_bytes(b"part")
        await blobs.sweep()
        assert await _read(blobs, NAME, 0, 4) == b"kept"

    asyncio.run(act())
    assert [path.name for path in _files(tmp_path)] == [str(NAME)]


def test_no_such_blob(tmp_path: Path) -> None:
    """Asking for what is not there is a typed error, also where it ends too early."""

    async def act() -> None:
        blobs = Blobs(tmp_path)
        with pytest.raises(NotFoundError):
            await _read(blobs, NAME, 0, 1)
        with pytest.raises(NotFoundError):
            blobs.path(NAME)
        await _put(blobs, NAME, b"four")
        with pytest.raises(NotFoundError, match="ends early"):
            await _read(blobs, NAME, 0, 5)

    asyncio.run(act())


def test_listed_and_removed(tmp_path: Path) -> None:
    """Every blob is listed by its name; what is removed is gone, the others stay."""

    async def act() -> None:
        blobs = Blobs(tmp_path)
        names = [Digest.of(bytes([number])) for number in range(5)]
        for name in names:
            await _put(blobs, name, b"x")
        listed = [name async for page in blobs.pages() for name in page]
        assert sorted(listed) == sorted(names)
        await blobs.remove(names[:2])
        await blobs.remove([])
        assert [await blobs.size(name) for name in names] == [None, None, 1, 1, 1]

    asyncio.run(act())
