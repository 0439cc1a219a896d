"""A target on its way: ``partial/<artifact>/``, resumable at any chunk.

* ``file.<n>``: the bytes of target file n so far;
* ``chunks``: for each group of chunks that is durable, how many chunks from the start are
  proved (8 bytes: count and its CRC-32), appended after the bytes themselves were synced;
* ``prefix.<delta>``: header and index of the delta in use, so that a resume need not fetch
  them again.

A kill loses nothing that was proved: chunks beyond the record lie in the page cache, are
proved again by their digests when the partial is opened, and synced before they are recorded.
A power cut loses at most one group: ``chunks_proved`` says more than the record by design.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from device_agent.store import durable
from device_agent.store.blobs import good_chunks
from device_agent.store.filesystem import FileSystem
from device_agent.store.store import Store
from edge_sdk.base import CHUNK_BYTES, Digest
from edge_sdk.manifest import FileEntry

_COUNT = struct.Struct("<II")
_HANDLES_MAX = 32  # files open at once, of however many a target has
_GROUP_CHUNKS = 8  # two fsyncs for each 8 MiB: one for each chunk halves the speed of eMMC


class Partial:
    """The files of one artifact in their order. ``entries`` are the files to be made; those
    in ``present`` are already blobs and are not written again."""

    def __init__(
        self, store: Store, artifact: Digest, entries: Sequence[FileEntry], present: frozenset[int]
    ) -> None:
        self._files: FileSystem = store.files
        self._store = store
        self.folder = store.partial_folder / str(artifact)
        self.entries = tuple(entries)
        self.present = present
        self.chunks_total = sum(len(entry.chunks) for entry in entries)
        self.chunks_proved = 0
        self._recorded = 0
        self._handles: dict[int, int] = {}
        self._dirty: set[int] = set()

    def open(self) -> int:
        """Makes the folder, or finds out how far an earlier attempt came.

        Returns the number of chunks, from the start, that need not be fetched. Bytes beyond
        them are cut off.
        """
        durable.make_folder(self._files, self.folder)
        recorded = min(self._read_record(), self.chunks_total)
        self.chunks_proved = self._prove_from(recorded)
        self._recorded = min(self.chunks_proved, recorded)
        self._cut_back()
        if self.chunks_proved > recorded:
            self._settle()
        if self.chunks_proved != recorded:
            self._write_record()
            self._recorded = self.chunks_proved
        return self.chunks_proved

    @property
    def proved_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes in self._proved())

    def write(self, file: int, offset: int, data: memoryview) -> None:
        """Bytes of a target file; they count only once ``chunk_proved`` says so."""
        if file in self.present:
            return
        self._files.write_at(self._handle(file), offset, data)
        self._dirty.add(file)

    def read(self, file: int, offset: int, length: int) -> bytes:
        """Bytes of a target file that were written, or that it has as a blob."""
        if file not in self.present:
            return self._files.read_at(self._handle(file), offset, length)
        with self._store.blobs.open(self.entries[file].digest) as stream:
            stream.seek(offset)
            return stream.read(length)

    def _handle(self, file: int) -> int:
        handle = self._handles.get(file)
        if handle is None:
            if len(self._handles) >= _HANDLES_MAX:
                self.sync()
                self.close()
            handle = self._files.open_update(self.path(file))
            self._handles[file] = handle
        return handle

    def chunk_proved(self, chunk: int) -> None:
        """Chunk number ``chunk`` of the artifact is written and has its digest."""
        self.chunks_proved = chunk + 1
        if self.chunks_proved - self._recorded >= _GROUP_CHUNKS:
            self.sync()

    def sync(self) -> None:
        """Makes every proved chunk durable, then says so in the record.

        Where that fails, what is not recorded is cut off: the kernel reports lost pages once
        and calls them clean, so another sync of the same bytes would prove nothing.
        """
        try:
            for file in sorted(self._dirty):
                self._files.sync_handle(self._handles[file])
        except OSError:
            self._forget_unrecorded()
            raise
        self._dirty.clear()
        if self.chunks_proved > self._recorded:
            durable.append(self._files, self._record_path, _count(self.chunks_proved))
            self._recorded = self.chunks_proved

    def close(self) -> None:
        for handle in self._handles.values():
            self._files.close(handle)
        self._handles.clear()
        self._dirty.clear()

    def start_over(self, chunks_good: int) -> None:
        """Forgets what comes after the first ``chunks_good`` chunks."""
        self.close()
        self.chunks_proved = self._recorded = chunks_good
        self._write_record()
        self._cut_back()

    def place(self) -> None:
        """Every file was read back and proved: give them their names as blobs."""
        self.close()
        for number, entry in enumerate(self.entries):
            if number in self.present or self._store.blobs.has(entry.digest):
                continue
            path = self.path(number)
            if not entry.chunks:  # nothing was written, and nothing read back
                self._files.write(path, b"")
            self._store.blobs.place(path, entry.digest)

    def remove(self) -> None:
        self.close()
        self._store.trees.remove_folder(self.folder)

    # -- the delta's prefix --------------------------------------------------------------

    def prefix(self, delta: Digest) -> bytes | None:
        """What was kept of this delta; unproved, like all that a delta says."""
        path = self._prefix_path(delta)
        return self._files.read(path) if self._files.exists(path) else None

    def keep_prefix(self, delta: Digest, prefix: bytes) -> None:
        for name in self._files.names(self.folder):
            if name.startswith("prefix."):
                self._files.unlink(self.folder / name)
        durable.write_whole(self._files, self._prefix_path(delta), prefix)

    def drop_prefix(self, delta: Digest) -> None:
        durable.remove(self._files, self._prefix_path(delta))

    def path(self, file: int) -> Path:
        return self.folder / f"file.{file}"

    # -- how far -------------------------------------------------------------------------

    @property
    def _record_path(self) -> Path:
        return self.folder / "chunks"

    def _prefix_path(self, delta: Digest) -> Path:
        return self.folder / f"prefix.{delta}"

    def _read_record(self) -> int:
        """The last whole count; a torn or damaged tail is passed over."""
        if not self._files.exists(self._record_path):
            return 0
        data = self._files.read(self._record_path)
        best = 0
        for position in range(0, len(data) - _COUNT.size + 1, _COUNT.size):
            count, check = _COUNT.unpack_from(data, position)
            if _check(count) != check:
                break
            best = count
        return best

    def _write_record(self) -> None:
        durable.write_whole(self._files, self._record_path, _count(self.chunks_proved))

    def _prove_from(self, recorded: int) -> int:
        """Goes on from ``recorded`` chunks: how many more lie here with their digests."""
        first = 0
        for number, entry in enumerate(self.entries):
            chunks = len(entry.chunks)
            if number not in self.present:
                done = min(max(recorded - first, 0), chunks)
                if not self._reaches(number, min(done * CHUNK_BYTES, entry.size_bytes)):
                    done = 0  # less is here than the record says: a power cut, or worse
                done += good_chunks(self._files, self.path(number), entry.chunks, skip=done)
                if done < chunks:
                    return first + done
            first += chunks
        return first

    def _reaches(self, number: int, size_bytes: int) -> bool:
        path = self.path(number)
        return not size_bytes or (
            self._files.exists(path) and self._files.size_bytes(path) >= size_bytes
        )

    def _cut_back(self) -> None:
        for number, proved_bytes in self._proved():
            path = self.path(number)
            if self._files.exists(path) and self._files.size_bytes(path) > proved_bytes:
                self._files.truncate(path, proved_bytes)

    def _settle(self) -> None:
        """What a killed process left was proved from the page cache, perhaps."""
        try:
            for number in range(len(self.entries)):
                if self._files.exists(self.path(number)):
                    durable.settle(self._files, self.path(number))
        except OSError:
            self._forget_unrecorded()
            raise

    def _forget_unrecorded(self) -> None:
        self._dirty.clear()
        self.chunks_proved = self._recorded
        self._cut_back()

    def _proved(self) -> Iterator[tuple[int, int]]:
        """Each file's number, and how many of its bytes are proved."""
        first = 0
        for number, entry in enumerate(self.entries):
            good = min(max(self.chunks_proved - first, 0), len(entry.chunks))
            yield number, min(good * CHUNK_BYTES, entry.size_bytes)
            first += len(entry.chunks)


def _count(chunks: int) -> bytes:
    return _COUNT.pack(chunks, _check(chunks))


def _check(chunks: int) -> int:
    # Not of the number alone: the CRC-32 of erased flash (FF FF FF FF) is FF FF FF FF.
    return zlib.crc32(b"chunks proved" + struct.pack("<I", chunks))
