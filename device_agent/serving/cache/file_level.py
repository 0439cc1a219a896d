"""The second level: answers in a file of fixed size, which outlive memory and process.

A header, then records one after the other; where the file ends, writing goes on at its
beginning, over the oldest. A record is believed only if its keyed check agrees and its request
is the same byte for byte, so whatever a crash, a power cut or somebody else left there is never
an answer: nothing is ever synced. The key of the check is drawn anew for each artifact and lies
in the header, where applications cannot read it: no input that one of them sends can contain a
record that is taken for ours after a restart.

Everything but looking up is done in a thread of low priority. Requests only read.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import queue
import secrets
import stat
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from device_agent.serving import memory
from device_agent.serving.cache.kept import Kept
from device_agent.serving.cache.record import decode_record, encode_record
from device_agent.serving.cache.request_key import RequestKey
from edge_sdk.base import Digest

_MAGIC = b"EDGERSP1"
_HEADER = struct.Struct("<8sQ32s32s16s")  # magic, bytes of the file, secret, scope, check
_RECORD_MAGIC = b"RSPR"
_RECORD = struct.Struct("<4sIQ8s16s")  # magic, bytes of the body, number, check of these, of all
_RECORDS_BEGIN = 4096
_ALIGN = 64
_SHARE_MAX = 4  # a record may take this part of the file, so that one does not push out all
_SCAN_BYTES = 1 << 20
_SAME_HASH_MAX = 8
_WAITING_MAX = 32  # answers not written yet; more are not kept here


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    offset: int
    length: int  # of the whole record, without what aligns the next one
    number: int
    hash: int

    @property
    def end(self) -> int:
        return self.offset + _aligned(self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What a look-up needs; replaced as a whole."""

    handle: int
    secret: bytes


class FileLevel:
    """At most ``file_bytes`` at ``path``, reserved as a whole; for one process at a time.

    ``room_bytes`` says how much may be written there; where it is too little, or the file cannot
    be used, this level holds nothing, and says so on standard error.
    """

    def __init__(self, path: Path, file_bytes: int, *, room_bytes: Callable[[], int]) -> None:
        self.size_bytes = 0
        self._path = path
        self._file_bytes = file_bytes // _ALIGN * _ALIGN
        self._room_bytes = room_bytes
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._handle = -1
        self._era = 0  # counts serve and stop: an opening asked for before is out of date
        self._artifact: Digest | None = None
        self._places: deque[_Place] = deque()  # in the order of writing
        self._by_hash: dict[int, list[_Place]] = {}
        self._position = _RECORDS_BEGIN
        self._number = 0
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    # -- any thread ----------------------------------------------------------------------

    def serve(self, artifact: Digest, runs_on: str) -> None:
        """From here on answers of ``artifact`` as computed on ``runs_on``, also those that an
        earlier process left; no others."""
        scope = Digest.of(f"{artifact}\n{runs_on}".encode()).raw
        era = self._forget(artifact)
        self._later(lambda: self._open(scope, era))

    def stop(self) -> None:
        """Nothing is kept, and the file goes."""
        self._forget()
        self._later(self._remove)

    def close(self) -> None:
        """Ends the thread once everything offered so far is written; the file stays."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        self._forget()
        self._close_handle()

    def offer(self, key: RequestKey, kept: Kept) -> None:
        """To be written soon, unless there is too much to write already."""
        if self._opened is not None and self._jobs.qsize() < _WAITING_MAX:
            self._later(lambda: self._write(key, kept))

    def get(self, key: RequestKey) -> Kept | None:
        """Reads from the file and believes nothing of it."""
        with self._lock:
            opened = self._opened
            places = tuple(self._by_hash.get(key.content_hash, ()))
            current = key.artifact == self._artifact
        if opened is None or not current:
            return None
        for place in reversed(places):
            body = _read(opened, place.offset, place.length, place.number)
            found = decode_record(body, key.artifact) if body is not None else None
            if found is not None and found[0] == key:
                return found[1]
        return None

    def _forget(self, artifact: Digest | None = None) -> int:
        with self._lock:
            self._era += 1
            self._artifact = artifact
            self._opened = None
            self._places.clear()
            self._by_hash.clear()
            return self._era

    # -- the thread ----------------------------------------------------------------------

    def _later(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="response-file", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        memory.lower_priority()
        while (job := self._jobs.get()) is not None:
            self._do(job)

    def _do(self, job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            sys.stderr.write(f"inference: answers are not kept in {self._path}: {error}\n")
            self._forget()
            self._close_handle()

    def _open(self, scope: bytes, era: int) -> None:
        if self._handle < 0:
            self._open_handle()
        secret = self._read_header(scope)
        places: list[_Place] = []
        if secret is None:
            secret = self._begin_anew(scope)
        else:
            places = sorted(self._scan(secret), key=lambda place: place.number)
        with self._lock:
            if era != self._era:
                return
            self._opened = _Opened(handle=self._handle, secret=secret)
            self.size_bytes = self._file_bytes
            self._position = places[-1].end if places else _RECORDS_BEGIN
            self._number = places[-1].number + 1 if places else 0
            for place in places:
                self._add(place)

    def _open_handle(self) -> None:
        """Raises: OSError, also where another process has the file."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(self._path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileExistsError(17, "not a regular file", str(self._path))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        self._handle = handle

    def _read_header(self, scope: bytes) -> bytes | None:
        """The secret; None: the file is not ours, of another size, or for another scope."""
        data = os.pread(self._handle, _HEADER.size, 0)
        size_bytes = os.fstat(self._handle).st_size
        if len(data) < _HEADER.size or size_bytes != self._file_bytes:
            return None
        secret: bytes = _HEADER.unpack(data)[2]
        return secret if hmac.compare_digest(data, self._header(secret, scope)) else None

    def _begin_anew(self, scope: bytes) -> bytes:
        missing_bytes = self._file_bytes - os.fstat(self._handle).st_blocks * 512
        if missing_bytes > max(0, self._room_bytes()):
            os.ftruncate(self._handle, 0)
            raise OSError(28, f"no room for {self._file_bytes} bytes")
        # All of it now: a write must not find the disk full later, nor take what others need.
        os.ftruncate(self._handle, self._file_bytes)
        os.posix_fallocate(self._handle, 0, self._file_bytes)
        secret = secrets.token_bytes(32)
        _write_at(self._handle, 0, self._header(secret, scope))
        return secret

    def _header(self, secret: bytes, scope: bytes) -> bytes:
        fields = struct.pack("<8sQ32s32s", _MAGIC, self._file_bytes, secret, scope)
        return fields + hashlib.blake2b(fields, digest_size=16).digest()

    def _scan(self, secret: bytes) -> Iterator[_Place]:
        """Every whole record in the file; what lies between them is passed over."""
        opened = _Opened(handle=self._handle, secret=secret)
        offset = _RECORDS_BEGIN
        while offset < self._file_bytes:
            window = os.pread(self._handle, _SCAN_BYTES, offset)
            at, skip = 0, len(window)
            while (at := window.find(_RECORD_MAGIC, at)) >= 0:
                place = self._place_at(opened, offset + at) if at % _ALIGN == 0 else None
                if place is not None:
                    yield place
                    at = place.end - offset
                    skip = max(skip, at)
                else:
                    at += 1
            if not window:
                return
            offset += skip

    def _place_at(self, opened: _Opened, offset: int) -> _Place | None:
        head = os.pread(opened.handle, _RECORD.size, offset)
        if len(head) < _RECORD.size:
            return None
        _, body_bytes, number, short, _ = _RECORD.unpack(head)
        # First, so that what only looks like a record does not cost a reading of its length.
        if not hmac.compare_digest(short, _short_check(opened.secret, offset, number, body_bytes)):
            return None
        length = _RECORD.size + body_bytes
        if length > self._file_bytes // _SHARE_MAX or offset + length > self._file_bytes:
            return None
        body = _read(opened, offset, length, number)
        found = decode_record(body, None) if body is not None else None
        if found is None:
            return None
        return _Place(offset=offset, length=length, number=number, hash=found[0].content_hash)

    def _write(self, key: RequestKey, kept: Kept) -> None:
        body = encode_record(key, kept)
        if body is None or _RECORD.size + len(body) > self._file_bytes // _SHARE_MAX:
            return
        length = _RECORD.size + len(body)
        with self._lock:
            opened, era = self._opened, self._era
            # A record does not name its artifact: one that was offered while the switch was made
            # must not come among those of the next.
            if opened is None or key.artifact != self._artifact:
                return
            place = self._claim(length, key.content_hash)
        check = _check(opened.secret, place.offset, place.number, body)
        short = _short_check(opened.secret, place.offset, place.number, len(body))
        head = _RECORD.pack(_RECORD_MAGIC, len(body), place.number, short, check)
        _write_at(opened.handle, place.offset, head + body)
        with self._lock:
            if era == self._era:
                self._add(place)

    def _claim(self, length: int, key_hash: int) -> _Place:
        """Where the next record goes; what lay there is held no more. With the lock."""
        if self._position + length > self._file_bytes:
            while self._places and self._places[0].offset >= self._position:
                self._drop_oldest()
            self._position = _RECORDS_BEGIN
        place = _Place(offset=self._position, length=length, number=self._number, hash=key_hash)
        while self._places and place.offset <= self._places[0].offset < place.end:
            self._drop_oldest()
        self._position = place.end
        self._number += 1
        return place

    def _add(self, place: _Place) -> None:
        self._places.append(place)
        same = self._by_hash.setdefault(place.hash, [])
        same.append(place)
        del same[:-_SAME_HASH_MAX]

    def _drop_oldest(self) -> None:
        place = self._places.popleft()
        same = self._by_hash.get(place.hash, [])
        with suppress(ValueError):  # among too many of one hash it went before
            same.remove(place)
        if not same:
            self._by_hash.pop(place.hash, None)

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._close_handle()

    def _close_handle(self) -> None:
        handle, self._handle = self._handle, -1
        self.size_bytes = 0
        if handle >= 0:
            os.close(handle)


def remove_others(folder: Path, keep: set[Path]) -> None:
    """Files of models that have no second level any more go."""
    for path in folder.glob("*.responses"):
        if path not in keep:
            with suppress(OSError):  # it takes room, and does no other harm
                path.unlink()


def _aligned(length: int) -> int:
    return -(-length // _ALIGN) * _ALIGN


def _short_check(secret: bytes, offset: int, number: int, body_bytes: int) -> bytes:
    fields = struct.pack("<QQQ", offset, number, body_bytes)
    return hashlib.blake2b(fields, digest_size=8, key=secret).digest()


def _check(secret: bytes, offset: int, number: int, body: bytes) -> bytes:
    start = struct.pack("<QQ", offset, number)
    check = hashlib.blake2b(start, digest_size=16, key=secret)
    check.update(body)
    return check.digest()


def _read(opened: _Opened, offset: int, length: int, number: int) -> bytes | None:
    """The body of the record there; None where it is not, or no more, what was written."""
    try:
        data = os.pread(opened.handle, length, offset)
    except OSError:
        return None
    if len(data) < length:
        return None
    magic, body_bytes, found, _, check = _RECORD.unpack_from(data)
    body = data[_RECORD.size :]
    if (magic, body_bytes, found) != (_RECORD_MAGIC, len(body), number):
        return None
    return body if hmac.compare_digest(check, _check(opened.secret, offset, number, body)) else None


def _write_at(handle: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        offset += written
        view = view[written:]
