"""Takes one publish: the manifest, then the files, each byte proved before it is kept.

Everything lies in staging until all of it is proved and durable; the catalog row comes
last. A publish that breaks off or does not hold what its manifest says leaves nothing; once the
last byte is proved it is kept as a whole, whatever becomes of who sent it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distributor.audit import Act, recorded
from distributor.builds import Room
from distributor.catalog import Added, add_with_evidence, check_new, missing_blobs
from distributor.services.access import Permit
from distributor.services.driver import now_ms
from distributor.services.gate import CodeGate, EvidenceGate
from distributor.services.stored import prove_stored
from distributor.storage import Blobs, Database, Staging
from edge_sdk.base import (
    CHUNK_BYTES,
    Digest,
    ProofError,
    ResourceError,
    UnavailableError,
    UsageError,
    chunk_length,
)
from edge_sdk.evidence import EVIDENCE_BYTES_MAX, EVIDENCE_MAX, Evidence
from edge_sdk.manifest import FileEntry, Manifest, decode_manifest
from edge_sdk.protos import fleet_v1_pb2 as fleet

_FIRST = "a publish begins with its manifest, and says it once"
_SIGNER_MAX = 256  # of one as the audit log says it


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What an artifact passes before it is kept."""

    code: CodeGate
    evidence: EvidenceGate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``created``: the artifact is new here. ``evidence``: what it came with."""

    artifact: Digest
    created: bool
    evidence: tuple[Evidence, ...] = ()


class Frames:
    """The frames of a publish, with one that can be looked at before it is taken."""

    def __init__(self, requests: AsyncIterator[fleet.PublishRequest]) -> None:
        self._requests = requests
        self._next: fleet.PublishRequest | None = None
        self.allow_code = False  # what the first message says

    async def manifest(self) -> bytes:
        """Raises: UsageError (the first message is no manifest)."""
        first = await anext(self._requests, None)
        if first is None or first.WhichOneof("part") != "manifest":
            raise UsageError(_FIRST)
        self.allow_code = first.allow_code
        return first.manifest

    async def evidence(self) -> list[bytes]:
        """What follows the manifest. Raises: UsageError."""
        found: list[bytes] = []
        while (request := await self._request()) and request.WhichOneof("part") == "evidence":
            if len(found) == EVIDENCE_MAX or len(request.evidence) > EVIDENCE_BYTES_MAX:
                raise UsageError(
                    f"at most {EVIDENCE_MAX} pieces of evidence, of {EVIDENCE_BYTES_MAX} bytes each"
                )
            found.append(request.evidence)
            self.take()
        return found

    async def peek(self) -> fleet.FileFrame | None:
        """The next frame, which stays the next one; none at the end."""
        request = await self._request()
        if request is None:
            return None
        if request.WhichOneof("part") != "frame":
            raise UsageError(_FIRST)
        return request.frame

    async def _request(self) -> fleet.PublishRequest | None:
        if self._next is None:
            self._next = await anext(self._requests, None)
        return self._next

    def take(self) -> None:
        self._next = None


async def publish(
    database: Database,
    blobs: Blobs,
    requests: AsyncIterator[fleet.PublishRequest],
    *,
    room: Room,
    permit_for: Callable[[str], Permit],
    gates: Gates,
) -> Outcome:
    """Takes an artifact. ``permit_for``: the caller's right to publish in a namespace.

    Raises: ForbiddenError, RefusedError (it can run code, or lacks evidence), TrustError (the
    evidence is of somebody else), FormatError, UsageError, ProofError, ConflictError,
    NotFoundError, ResourceError, UnavailableError (files are missing: the caller thought that
    they were here; or the disk was full, and deltas made room: what is sent again finds it).
    """
    frames = Frames(requests)
    document = await frames.manifest()
    manifest = await asyncio.to_thread(decode_manifest, document)
    permit = permit_for(manifest.model.namespace)
    artifact = Digest.of(document)
    new = await database.read(check_new, artifact, manifest)
    missing = await database.read(missing_blobs, [entry.digest for entry in manifest.files])
    documents = await frames.evidence()
    evidence: tuple[Evidence, ...] = ()
    if new or documents:  # what is there passed before, by the policy of its day
        evidence = await gates.evidence.check(manifest, documents, at_ms=now_ms())
    if not new and not missing and not evidence:
        # missing: a stored file was found damaged, and comes again
        return Outcome(artifact=artifact, created=False)
    try:
        async with blobs.stage() as staging:
            await _stage(staging, manifest, frames, set(missing))
            await prove_stored(database, blobs, manifest, staging.digests)
            if evidence:
                await gates.evidence.check_sample(manifest, partial(_path, blobs, staging))
            code: tuple[str, ...] = ()
            if new or missing:
                code = await gates.code.check(
                    manifest, partial(_path, blobs, staging), asked=frames.allow_code
                )
            keep = _keep(
                database,
                blobs,
                staging,
                document,
                manifest,
                permit=permit,
                code=code,
                evidence=evidence,
            )
            added = await _to_the_end(keep)
            return Outcome(artifact=artifact, created=added.created, evidence=evidence)
    except ResourceError as error:
        # A delta can be built again, what an operator publishes exists nowhere else here.
        if error.facts.get("short") != "disk" or not await room.free(manifest.size_bytes):
            raise
        raise UnavailableError("the disk was full; deltas made room: publish again") from error


def _path(blobs: Blobs, staging: Staging, digest: Digest) -> Path:
    """Where a file of the artifact lies while it is not kept yet, or since it was before."""
    return staging.path(digest) if digest in staging.digests else blobs.path(digest)


async def _stage(
    staging: Staging, manifest: Manifest, frames: Frames, missing: set[Digest]
) -> None:
    """Takes the files that come, and sees to it that none of the missing stays away."""
    # Entries of one digest say the same of it: no manifest is read where they do not.
    entries = {entry.digest: entry for entry in manifest.files}
    while (frame := await frames.peek()) is not None:
        entry = entries.get(Digest(frame.digest))
        if entry is None:
            raise UsageError(f"file {frame.digest.hex()} is not in the manifest")
        await staging.write(entry.digest, _proved(entry, _bytes_of(entry, frames)))
        missing.discard(entry.digest)
    await _add_empty(staging, entries, missing)
    if missing:
        paths = ", ".join(sorted(entries[one].path for one in missing))
        raise UnavailableError(f"the bytes of {paths} did not come; publish again")


async def _keep(
    database: Database,
    blobs: Blobs,
    staging: Staging,
    document: bytes,
    manifest: Manifest,
    *,
    permit: Permit,
    code: tuple[str, ...],
    evidence: tuple[Evidence, ...],
) -> Added:
    """Gives what is staged its names, then the catalog its rows."""
    repaired = bool(staging.digests)
    here = {entry.digest for entry in manifest.files} - staging.digests
    async with blobs.settling:
        if await database.read(missing_blobs, here):
            raise UnavailableError("a file that was here went meanwhile; publish again")
        await staging.keep()
        at_ms = now_ms()

        def act(added: Added) -> Act | None:
            name = f"{manifest.model} {manifest.version} {manifest.variant}"
            action = _action(added, repaired=repaired)
            facts = {"code": "; ".join(code)[:500]} if code else {}
            for number, one in enumerate(added.evidence, start=1):
                signer = one.signer[:_SIGNER_MAX]
                facts[f"evidence {number}"] = f"{one.kind} {one.digest} by {signer}"
            if action is None:
                return None
            return permit.act(action, name, facts, at_ms=at_ms, request=Digest.of(document))

        add = recorded(add_with_evidence, act)
        return await database.write(add, document, manifest, evidence, at_ms=at_ms, by=permit.by)


def _action(added: Added, *, repaired: bool) -> str | None:
    """What the audit log calls it; none where nothing changed."""
    if added.created:
        return "artifact.publish"
    if repaired:
        return "artifact.repair"
    return "artifact.evidence" if added.evidence else None


async def _to_the_end(work: Coroutine[None, None, Added]) -> Added:
    """Does ``work`` as a whole, also where the publisher goes away or is thrown out meanwhile:
    half of it would be files that no row speaks of."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to hear it
        raise


async def _add_empty(
    staging: Staging, entries: dict[Digest, FileEntry], missing: set[Digest]
) -> None:
    """An empty file has no bytes to send, so it is made here."""
    for digest in [one for one in missing if not entries[one].size_bytes]:
        await staging.write(digest, _proved(entries[digest], _nothing()))
        missing.discard(digest)


async def _nothing() -> AsyncIterator[bytes]:
    parts: tuple[bytes, ...] = ()
    for part in parts:
        yield part


async def _bytes_of(entry: FileEntry, frames: Frames) -> AsyncIterator[bytes]:
    """The bytes of one file: its frames follow each other without a gap."""
    offset = 0
    while (frame := await frames.peek()) is not None and frame.digest == entry.digest.raw:
        if frame.offset != offset:
            raise UsageError(f"file {entry.path} goes on at byte {frame.offset}, expected {offset}")
        yield frame.data
        offset += len(frame.data)
        frames.take()


async def _proved(entry: FileEntry, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``parts`` in chunks, each passed on only once it is proved.

    Raises: ProofError (a chunk, the length or the plain SHA-256 differs).
    """
    plain = hashlib.sha256()
    chunk, waiting = 0, bytearray()
    async for part in parts:
        waiting += part
        while len(waiting) >= CHUNK_BYTES:
            whole = bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
            yield await asyncio.to_thread(_prove_chunk, entry, chunk, whole, plain)
            chunk += 1
    if waiting:
        yield await asyncio.to_thread(_prove_chunk, entry, chunk, bytes(waiting), plain)
        chunk += 1
    if chunk != len(entry.chunks):
        raise ProofError(f"file {entry.path} ends after {chunk} of {len(entry.chunks)} chunks")
    if plain.digest() != entry.sha256.raw:
        raise ProofError(f"the SHA-256 of {entry.path} is not the one in the manifest")


def _prove_chunk(entry: FileEntry, chunk: int, data: bytes, plain: hashlib._Hash) -> bytes:
    if chunk >= len(entry.chunks):
        raise ProofError(f"file {entry.path} is longer than its manifest says")
    proved = len(data) == chunk_length(entry.size_bytes, chunk)
    if not proved or Digest.of(data) != entry.chunks[chunk]:
        raise ProofError(
            f"chunk {chunk} of {entry.path} is not what the manifest says", chunk=chunk
        )
    plain.update(data)
    return data
