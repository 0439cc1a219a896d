"""The prover: the one place where digests of target bytes are checked.

Every byte of a target passes through here before it can be loaded, and nothing turns it off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_sdk.base import (
    CHUNK_BYTES,
    Digest,
    ProofError,
    UsageError,
    chunk_count,
    chunk_length,
    file_digest,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFile:
    """What a target file must be. Without ``chunks`` it is proved only at its end."""

    size_bytes: int
    digest: Digest
    chunks: tuple[Digest, ...] | None = None


class Prover:
    """Hashes what a decoder writes, chunk by chunk, and compares.

    ``on_chunk(global chunk, digest)`` is called for each chunk once it is proved; it needs
    files whose chunk digests are known, and so does beginning at a ``first_chunk``.

    Raises: UsageError (digests that contradict each other or are missing).
    """

    def __init__(
        self,
        files: Sequence[ExpectedFile],
        *,
        first_chunk: int = 0,
        on_chunk: Callable[[int, Digest], None] | None = None,
    ) -> None:
        for number, expected in enumerate(files):
            _check_expected(number, expected, chunks_needed=bool(first_chunk or on_chunk))
        self._files = tuple(files)
        self._on_chunk = on_chunk
        # From the beginning, empty files are proved too: they come with no chunk.
        self._file, self._chunk = self._find(first_chunk) if first_chunk else (0, 0)
        self._global_chunk = first_chunk
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self._found: list[Digest] = []
        self._pass_finished_files()

    def _find(self, first_chunk: int) -> tuple[int, int]:
        """File and chunk within it of a global chunk."""
        for number, expected in enumerate(self._files):
            count = chunk_count(expected.size_bytes)
            if first_chunk < count:
                return number, first_chunk
            first_chunk -= count
        if first_chunk:
            raise UsageError("the first chunk to prove lies behind the last")
        return len(self._files), 0

    def update(self, file: int, offset: int, data: memoryview) -> None:
        """Takes the next bytes. Raises: ProofError as soon as a chunk differs."""
        view = memoryview(data).cast("B")
        if file != self._file or offset != self._chunk * CHUNK_BYTES + self._hashed_bytes:
            raise ProofError(
                f"bytes of target file {file} at {offset} came out of order",
                file=file,
                offset=offset,
            )
        while len(view):
            if self._file != file:
                raise ProofError(f"target file {file} is longer than promised", file=file)
            wanted = chunk_length(self._files[file].size_bytes, self._chunk) - self._hashed_bytes
            self._hash.update(view[:wanted])
            self._hashed_bytes += min(wanted, len(view))
            if len(view) >= wanted:
                self._finish_chunk()
            view = view[wanted:]

    def _finish_chunk(self) -> None:
        expected = self._files[self._file]
        digest = Digest(self._hash.digest())
        if expected.chunks is not None and expected.chunks[self._chunk] != digest:
            raise ProofError(
                f"chunk {self._chunk} of target file {self._file} does not have its digest",
                file=self._file,
                chunk=self._chunk,
                wanted=str(expected.chunks[self._chunk]),
                got=str(digest),
            )
        if self._on_chunk is not None:
            self._on_chunk(self._global_chunk, digest)
        if expected.chunks is None:
            self._found.append(digest)
        self._global_chunk += 1
        self._chunk += 1
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self._pass_finished_files()

    def _pass_finished_files(self) -> None:
        """Goes on to the next file that still needs bytes, proving those that are complete."""
        while self._file < len(self._files):
            expected = self._files[self._file]
            if self._chunk < chunk_count(expected.size_bytes):
                return
            if expected.chunks is None and file_digest(self._found) != expected.digest:
                raise ProofError(
                    f"target file {self._file} does not have its digest",
                    file=self._file,
                    wanted=str(expected.digest),
                    got=str(file_digest(self._found)),
                )
            self._found = []
            self._file, self._chunk = self._file + 1, 0

    def finish(self) -> None:
        """Raises: ProofError if anything is missing."""
        if self._file < len(self._files):
            raise ProofError(f"target file {self._file} is not complete", file=self._file)


def _check_expected(number: int, expected: ExpectedFile, *, chunks_needed: bool) -> None:
    if expected.chunks is None:
        if chunks_needed:
            raise UsageError(f"target file {number} cannot be proved chunk by chunk: no digests")
    elif (
        len(expected.chunks) != chunk_count(expected.size_bytes)
        or file_digest(expected.chunks) != expected.digest
    ):
        raise UsageError(f"the digests of target file {number} contradict each other")
