"""ContentService: the files of published artifacts, for operators who prove them."""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from distributor import catalog
from distributor.services.access import permitted
from distributor.services.wire import number, to_digest
from distributor.storage import Blobs, Database
from edge_sdk.base import NotFoundError, ProofError, UsageError
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos import operators_v1_pb2_grpc as wire_grpc
from edge_sdk.rpc import FRAME_BYTES


class Contents(wire_grpc.ContentServiceServicer):
    """What an artifact holds, byte for byte. Nothing is proved here: the caller does."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def FetchFile(
        self, request: wire.FetchFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.FileBytes]:
        """A file from an offset to its end, read only as fast as the caller takes it."""
        found = await self._database.read(catalog.get_artifact, to_digest(request.artifact))
        permitted(found.model.namespace)
        files = {entry.path: entry for entry in found.manifest().files}
        if request.path not in files:
            raise NotFoundError(f"{found.model} {found.version} has no file {request.path[:200]!r}")
        entry, offset = files[request.path], number(request.offset, "offset")
        if offset > entry.size_bytes:
            raise UsageError(f"{entry.path} has {entry.size_bytes} bytes; {offset} is beyond them")
        if await self._blobs.size(entry.digest) != entry.size_bytes:
            raise ProofError(f"{entry.path} is damaged in the distributor's store; publish again")
        async for part in self._blobs.stream(entry.digest, offset, entry.size_bytes):
            for start in range(0, len(part), FRAME_BYTES):
                yield wire.FileBytes(data=bytes(part[start : start + FRAME_BYTES]))

    async def FetchEvidence(
        self, request: wire.FetchEvidenceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.EvidenceFile]:
        """What an artifact was published with, the oldest first; one of it in memory."""
        found = await self._database.read(catalog.get_artifact, to_digest(request.artifact))
        permitted(found.model.namespace)
        for digest in await self._database.read(catalog.evidence_of, found.artifact):
            one = await self._database.read(catalog.get_evidence, found.artifact, digest)
            yield wire.EvidenceFile(document=one.document, added_ms=one.added_ms)
