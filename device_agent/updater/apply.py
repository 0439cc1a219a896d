"""Turns the bytes of a delta into proved chunks of the target, as they arrive.

Decoder and prover are those of ``edge_sdk.delta``; here they meet the store. A chunk counts
once its digest agreed with the manifest. What the delta says is believed nowhere.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from device_agent.fleet_link import PlanStep
from device_agent.store import Store
from device_agent.store.partial import Partial
from device_agent.updater.fetch import Cursor, Span
from edge_sdk.base import DeltaError, Digest, WrongSourceError
from edge_sdk.delta import Decoder, ExpectedFile, Header, Prover
from edge_sdk.delta.container import PREAMBLE_BYTES, prefix_length
from edge_sdk.manifest import FileEntry, Manifest

_SOURCES_OPEN_MAX = 32  # of however many files a source has


_SCOUT_BYTES = 64 << 10  # the prefix of a model of some thousand chunks


class Application:
    """One step of a plan on its way. ``begin`` first; feed while ``cursor`` wants bytes; then
    ``finish``. Raises: DeltaError, ProofError, WrongSourceError, OSError (disk)."""

    def __init__(
        self, store: Store, step: PlanStep, manifest: Manifest, *, memory_limit_bytes: int
    ) -> None:
        self._store = store
        self._memory_limit_bytes = memory_limit_bytes
        self.step = step
        self.manifest = manifest
        self.entries: tuple[FileEntry, ...] = manifest.files
        present = frozenset(
            number for number, entry in enumerate(self.entries) if store.blobs.has(entry.digest)
        )
        self.partial = Partial(store, step.target, self.entries, present)
        self.cursor = Cursor(())
        self._decoder: Decoder | None = None
        self._prover: Prover | None = None
        self._source_digests: tuple[Digest, ...] = ()
        self._sources: dict[int, BinaryIO] = {}  # the open ones, that opened longest ago first
        self._prefix = bytearray()  # of the container, until it is known where it ends
        self._prefix_kept = False
        self._scouting = False

    @property
    def done_bytes(self) -> int:
        """Proved bytes of the target."""
        return self.partial.proved_bytes

    @property
    def total_bytes(self) -> int:
        return self.manifest.size_bytes

    def source_files(self) -> tuple[Digest, ...]:
        """The held files that the delta reads; what it names beyond them never was here."""
        header = self._decoder.header if self._decoder is not None else None
        named = () if header is None else tuple(file.digest for file in header.sources)
        return tuple(digest for digest in named if self._store.blobs.has(digest))

    def begin(self) -> None:
        """Finds out how far it came before; afterwards ``cursor`` says what to fetch."""
        chunks = self.partial.open()
        if chunks == self.partial.chunks_total:
            return
        prefix = self.partial.prefix(self.step.delta)
        if prefix is not None:
            try:
                self._resume(prefix, chunks)
            except DeltaError:
                self.partial.drop_prefix(self.step.delta)  # damaged here; fetch it again
            else:
                return
        # Without header and index of this delta nobody knows where the chunk is in it.
        self._scouting = chunks > 0
        self._start()

    def feed(self, data: bytes) -> None:
        """The next bytes that ``cursor`` asked for."""
        assert self._decoder is not None
        self.cursor.take(len(data))
        if not self._prefix_kept:
            self._prefix += data
        self._decoder.feed(self._of_prefix(data) if self._scouting else data)
        if not self._prefix_kept and self._decoder.header is not None:
            self._keep_prefix()
        elif self._scouting and self.cursor.is_done and len(self._prefix) < self.step.delta_bytes:
            self._scout_further(len(self._prefix))
            self._redirected = True

    def _of_prefix(self, data: bytes) -> bytes:
        """What of it is header and index: no record is made while only these are wanted."""
        if len(self._prefix) < PREAMBLE_BYTES:
            return data
        known_bytes = len(self._prefix) - len(data)
        return data[: max(0, prefix_length(bytes(self._prefix[:PREAMBLE_BYTES])) - known_bytes)]

    @property
    def was_redirected(self) -> bool:
        """Once, whenever the bytes that are wanted next are not those already asked for."""
        redirected, self._redirected = self._redirected, False
        return redirected

    _redirected = False

    def finish(self) -> None:
        """All bytes were fed: everything must be there and proved."""
        if self._decoder is not None and self._prover is not None:
            self._decoder.finish()
            self._prover.finish()
        self.partial.sync()
        self.close()

    def close(self) -> None:
        """Keeps what is proved; what is not is fetched again."""
        self._close_sources()
        self.partial.close()

    # -- decoder and prover --------------------------------------------------------------

    def _start(self) -> None:
        self._decoder = Decoder(
            read_source=self._read_source,
            write=self._write,
            read_target=self.partial.read,
            memory_limit_bytes=self._memory_limit_bytes,
            on_header=self._check_header,
        )
        self._prefix_kept = False
        self._prefix.clear()
        self._prover = None if self._scouting else self._new_prover(0)
        if not self._scouting:
            self.partial.chunks_proved = 0
        self._scout_further(0) if self._scouting else self._go_on_from(0)

    def _go_on_from(self, offset: int, length: int | None = None) -> None:
        left = self.step.delta_bytes - offset
        self.cursor = Cursor((Span(offset=offset, length=min(left, length or left)),))

    def _scout_further(self, offset: int) -> None:
        """Asks for a little, then for as much again: what is behind the prefix is thrown away."""
        self._go_on_from(offset, max(_SCOUT_BYTES, offset))

    def _resume(self, prefix: bytes, chunk: int) -> None:
        decoder, spans = Decoder.resume(
            prefix,
            chunk,
            read_source=self._read_source,
            write=self._write,
            read_target=self.partial.read,
            memory_limit_bytes=self._memory_limit_bytes,
        )
        assert decoder.header is not None
        self._check_header(decoder.header)
        self._decoder = decoder
        self._prover = self._new_prover(chunk)
        self._prefix_kept = True
        self._scouting = False
        self.cursor = Cursor([Span(offset=span.offset, length=span.length) for span in spans])

    def _keep_prefix(self) -> None:
        assert self._decoder is not None
        prefix = bytes(self._prefix[: self._decoder.prefix_bytes])
        self.partial.keep_prefix(self.step.delta, prefix)
        self._prefix_kept = True
        self._prefix.clear()
        if self._scouting:
            self._close_sources()
            self._resume(prefix, self.partial.chunks_proved)
            self._redirected = True

    def _new_prover(self, first_chunk: int) -> Prover:
        files = [
            ExpectedFile(size_bytes=entry.size_bytes, digest=entry.digest, chunks=entry.chunks)
            for entry in self.entries
        ]
        return Prover(files, first_chunk=first_chunk, on_chunk=self._on_chunk)

    def _check_header(self, header: Header) -> None:
        """The delta must make exactly the manifest's files, in their order."""
        made = [(file.path, file.size_bytes, file.digest) for file in header.targets]
        if made != [(entry.path, entry.size_bytes, entry.digest) for entry in self.entries]:
            raise DeltaError("the delta makes other files than the manifest names")
        self._close_sources()
        for file in header.sources:
            if not self._store.blobs.has(file.digest):
                raise WrongSourceError(
                    f"the delta builds on {file.path} ({file.digest.short}), not held here"
                )
        self._source_digests = tuple(file.digest for file in header.sources)

    def _close_sources(self) -> None:
        for stream in self._sources.values():
            stream.close()
        self._sources.clear()

    def _read_source(self, file: int, offset: int, length: int) -> bytes:
        stream = self._sources.get(file)
        if stream is None:
            if len(self._sources) >= _SOURCES_OPEN_MAX:
                self._sources.pop(next(iter(self._sources))).close()
            stream = self._sources[file] = self._store.blobs.open(self._source_digests[file])
        return os.pread(stream.fileno(), length, offset)

    def _write(self, file: int, offset: int, data: memoryview) -> None:
        assert self._prover is not None
        self.partial.write(file, offset, data)
        self._prover.update(file, offset, data)

    def _on_chunk(self, chunk: int, digest: Digest) -> None:
        self.partial.chunk_proved(chunk)
