"""Sends a prepared artifact: only files that the distributor lacks, in small frames.

Everything is named by its digest, so that sending again after a broken connection is safe:
what arrived whole is not sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from edge_sdk.base import Digest, EdgeError, FormatError
from edge_sdk.fleet.publish import Advance, Prepared
from edge_sdk.protos import fleet_v1_pb2 as wire
from edge_sdk.rpc import FRAME_BYTES


class Meter:
    """Tells a progress bar of bytes that are safely there, never of the same byte twice."""

    def __init__(self, advance: Advance | None) -> None:
        self._advance = advance
        self._told = 0
        self.sent_bytes = 0

    def at(self, done_bytes: int) -> None:
        """``done_bytes`` of the artifact are there; less than before after a new attempt."""
        if self._advance is not None and done_bytes > self._told:
            self._advance(done_bytes - self._told)
            self._told = done_bytes


class Upload:
    """The requests of one attempt to publish.

    gRPC swallows what its request iterator raises, so that is kept in ``failed``.
    """

    def __init__(self, prepared: Prepared, missing: Collection[Digest], meter: Meter) -> None:
        self._prepared = prepared
        self._missing = frozenset(missing)
        self._meter = meter
        self.failed: EdgeError | None = None

    def requests(self) -> Iterator[wire.PublishRequest]:
        try:
            yield from self._requests()
        except EdgeError as error:
            self.failed = error
            raise

    def _requests(self) -> Iterator[wire.PublishRequest]:
        yield wire.PublishRequest(
            manifest=self._prepared.document, allow_code=self._prepared.allow_code
        )
        for document in self._prepared.evidence:
            yield wire.PublishRequest(evidence=document)
        sizes = {entry.digest: entry.size_bytes for entry in self._prepared.manifest.files}
        done = sum(size for digest, size in sizes.items() if digest not in self._missing)
        self._meter.at(done)
        for digest in sorted(self._missing & set(sizes)):
            for frame in self._frames(digest, sizes[digest]):
                yield wire.PublishRequest(frame=frame)
                # Control comes back once the frame was handed over.
                done += len(frame.data)
                self._meter.sent_bytes += len(frame.data)
                self._meter.at(done)

    def _frames(self, digest: Digest, size_bytes: int) -> Iterator[wire.FileFrame]:
        content = self._prepared.contents[digest]
        with content.open() as stream:
            if size_bytes == 0:
                yield wire.FileFrame(digest=digest.raw)
            for offset in range(0, size_bytes, FRAME_BYTES):
                wanted = min(FRAME_BYTES, size_bytes - offset)
                data = stream.read(wanted)
                if len(data) != wanted:
                    raise FormatError(
                        f"{content.path} became shorter while it was published; publish it again"
                    )
                yield wire.FileFrame(digest=digest.raw, offset=offset, data=data)
