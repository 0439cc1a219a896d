"""Blobs: immutable bytes named by their file digest, kept through obstore.

What arrives lies under ``staging/`` until the whole publish is proved; only then it takes
its name under ``blobs/``. obstore never syncs a local file, so files and folders are synced
here before anybody writes a catalog row that speaks of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import obstore
from obstore.store import LocalStore

from edge_sdk.base import (
    CHUNK_BYTES,
    Digest,
    FileProof,
    NotFoundError,
    explain_os_error,
    file_digest,
    sync_folder,
)

_STAGING = "staging"


def _key(digest: Digest) -> str:
    text = str(digest)
    return f"blobs/{text[:2]}/{text}"


class Blobs:
    """The blob store of one distributor. Nothing in it is ever changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = LocalStore(folder, mkdir=True)
        # Held from a blob's name until a row speaks of it, and from a row's end until its blob
        # is gone: else what one takes away could be what another has just brought.
        self.settling = asyncio.Lock()

    async def size(self, digest: Digest) -> int | None:
        """Bytes of a blob; none where it is not here."""
        try:
            return int((await obstore.head_async(self._store, _key(digest)))["size"])
        except FileNotFoundError:
            return None

    async def stream(
        self, digest: Digest, offset: int, end: int, *, step_bytes: int = CHUNK_BYTES
    ) -> AsyncIterator[memoryview]:
        """The bytes [offset, end) in pieces of ``step_bytes``, each read when it is asked for.

        Raises: NotFoundError (no such blob, or it is shorter than that).
        """
        while offset < end:
            length = min(step_bytes, end - offset)
            try:
                part = await obstore.get_range_async(
                    self._store, _key(digest), start=offset, length=length
                )
            except FileNotFoundError:
                raise NotFoundError(f"blob {digest} is not in the store") from None
            data = memoryview(part)
            if len(data) != length:
                raise NotFoundError(f"blob {digest} ends early, at {offset + len(data)}")
            yield data
            offset += length

    async def intact(self, digest: Digest) -> bool:
        """Whether the blob is here with the bytes that its name promises; reads all of it."""
        return await self.prove(digest) is not None

    async def prove(self, digest: Digest) -> FileProof | None:
        """What the blob's bytes are, by reading all of them; none where it is not here with the
        bytes that its name promises."""
        size = await self.size(digest)
        if size is None:
            return None
        plain = hashlib.sha256()
        try:
            chunks = [
                await asyncio.to_thread(_hash_chunk, part, plain)
                async for part in self.stream(digest, 0, size)
            ]
        except NotFoundError:
            return None  # it went meanwhile
        if file_digest(chunks) != digest:
            return None
        return FileProof(size_bytes=size, chunks=tuple(chunks), sha256=Digest(plain.digest()))

    def path(self, digest: Digest) -> Path:
        """Where the blob lies on this machine, for delta builds. Raises: NotFoundError."""
        path = self._folder / _key(digest)
        if not path.is_file():
            raise NotFoundError(f"blob {digest} is not in the store")
        return path

    def stage(self) -> Staging:
        """A place for what arrives; use it as an async context."""
        return Staging(self._store, self._folder)

    async def pages(self) -> AsyncIterator[list[Digest]]:
        """The names of all blobs, in pages."""
        for page in obstore.list(self._store, "blobs"):
            yield [Digest.parse(str(entry["path"]).rpartition("/")[2]) for entry in page]

    async def remove(self, digests: Collection[Digest]) -> None:
        """Removes blobs that nothing speaks of."""
        if digests:
            await obstore.delete_async(self._store, [_key(one) for one in digests])

    async def sweep(self) -> None:
        """Removes what a killed process left half-done. Only while nothing else writes."""
        pages = obstore.list(self._store, _STAGING)
        leftover = [entry["path"] for page in pages for entry in page]
        if leftover:
            await obstore.delete_async(self._store, leftover)
        # obstore hides its own unfinished files (``name#1``) from listings.
        await asyncio.to_thread(_remove_parts, self._folder / _STAGING)


class Staging:
    """What one publish or build brings: all of it becomes blobs, or nothing stays.

    ``async with blobs.stage() as staging: await staging.write(...); await staging.keep()``
    """

    def __init__(self, store: LocalStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._prefix = f"{_STAGING}/{secrets.token_hex(8)}"
        self._staged: dict[Digest, str] = {}

    async def __aenter__(self) -> Staging:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._staged:
            await obstore.delete_async(self._store, list(self._staged.values()))
            self._staged.clear()
        # The folder is ours alone; obstore leaves empty ones behind.
        await asyncio.to_thread(_remove_parts, self._folder / self._prefix)

    @property
    def digests(self) -> frozenset[Digest]:
        """What was written and has no name yet."""
        return frozenset(self._staged)

    def path(self, digest: Digest) -> Path:
        """Where what was written lies until it is kept."""
        return self._folder / self._staged[digest]

    async def write(self, digest: Digest, parts: AsyncIterator[bytes]) -> None:
        """Takes the bytes of one blob, which the caller proves as they pass: an exception
        from ``parts`` leaves nothing. Raises: ResourceError (disk full)."""
        key = f"{self._prefix}/{digest}"
        try:
            async with obstore.open_writer_async(self._store, key) as writer:
                async for part in parts:
                    await writer.write(part)
        except OSError as error:
            raise explain_os_error(error, self._folder / key) from error
        self._staged[digest] = key

    async def keep(self) -> None:
        """Gives everything its name under ``blobs/``, durably. Raises: ResourceError."""
        try:
            for digest, staged in list(self._staged.items()):
                await asyncio.to_thread(_sync_file, self._folder / staged)
                await obstore.rename_async(self._store, staged, _key(digest))
                del self._staged[digest]
                await asyncio.to_thread(self._sync_folders, digest)
        except OSError as error:
            raise explain_os_error(error, self._folder) from error

    def _sync_folders(self, digest: Digest) -> None:
        # The name is durable only when its folder is, and that folder's name only when the
        # one above is: without these a power cut leaves a catalog row without its blob.
        folder = (self._folder / _key(digest)).parent
        for one in (folder, folder.parent, self._folder):
            sync_folder(one)


def _hash_chunk(data: memoryview, plain: hashlib._Hash) -> Digest:
    plain.update(data)
    return Digest.of(data)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.fchmod(handle, 0o444)
    finally:
        os.close(handle)


def _remove_parts(folder: Path) -> None:
    """Removes a tree of plain files; missing is fine."""
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    folder.rmdir()
