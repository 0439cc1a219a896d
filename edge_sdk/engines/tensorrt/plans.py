"""The folder of plans. A plan is code: one is loaded only if its bytes are those we wrote.

Each plan is two files named by its key: ``<name>.plan``, and ``<name>.json``, the line of our
index, written last and only once the plan is durable. A third kind, ``.timings``, is what builds
measured, one for this GPU and library: SHA-256, then what TensorRT serialised. The folder is
for our user alone. What others could have written to is thrown away unread.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from edge_sdk.base import ProofError, UsageError, whole_file
from edge_sdk.engines.known import PlanRoom
from edge_sdk.engines.tensorrt.rules import Kept, PlanKey, to_drop

PLAN = ".plan"
INDEX = ".json"
TIMINGS = ".timings"
_INDEX_BYTES_MAX = 64 << 10
_TIMINGS_BYTES_MAX = 64 << 20
_DIGEST_BYTES = 32


class Plans:
    """Opens the folder, and makes it where it is missing. Raises: UsageError (not ours)."""

    def __init__(self, room: PlanRoom) -> None:
        self._folder = room.folder
        self._room = room
        _make_private(room.folder)

    def all(self) -> tuple[Kept, ...]:
        """What can be loaded, by our index."""
        lines = (self._line(path) for path in sorted(self._folder.glob(f"*{INDEX}")))
        return tuple(one for one in lines if one and self._path(one, PLAN).exists())

    def read(self, kept: Kept) -> bytes:
        """The plan's bytes, and they were hashed here: nobody can change them any more.

        Raises: ProofError; the plan is gone then.
        """
        path = self._path(kept, PLAN)
        try:
            data = _read_ours(path, kept.size_bytes, kept.size_bytes)
        except OSError as error:
            self.drop(kept)
            raise ProofError(f"{path} cannot be read: {error}", path=str(path)) from None
        found = hashlib.sha256(data).hexdigest()
        if found != kept.sha256:
            self.drop(kept)
            raise ProofError(
                f"{path} has SHA-256 {found}, our index says {kept.sha256}", path=str(path)
            )
        os.utime(self._path(kept, INDEX))
        return data

    def write(
        self,
        key: PlanKey,
        structure: str,
        plan: memoryview,
        *,
        made_by: Literal["build", "refit"],
    ) -> bool:
        """Keeps a plan, durably, and drops others to make room; False: there is none.

        Raises: ResourceError (disk).
        """
        kept = Kept(
            key=key,
            structure=structure,
            sha256=hashlib.sha256(plan).hexdigest(),
            size_bytes=plan.nbytes,
            made_by=made_by,
        )
        with self._alone():
            doomed = to_drop(
                self._swept(),
                key,
                kept.size_bytes,
                room_bytes=self._room.room_bytes(),
                held={key.artifact, *map(str, self._room.held())},
            )
            if doomed is None:
                return False
            for one in doomed:
                self.drop(one)
            self._write(self._path(kept, PLAN), plan)
            self._write(self._path(kept, INDEX), msgspec.json.encode(kept))
        return True

    def drop(self, kept: Kept) -> None:
        """The index first: a plan without a line is never loaded."""
        for suffix in (INDEX, PLAN):
            self._path(kept, suffix).unlink(missing_ok=True)

    def timings(self, key: PlanKey) -> bytes:
        """What builds measured on this GPU with this library; nothing where that is damaged."""
        try:
            data = _read_ours(self._timings_path(key), None, _TIMINGS_BYTES_MAX)
        except OSError:
            return b""
        digest, blob = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return blob if hashlib.sha256(blob).digest() == digest else b""

    def write_timings(self, key: PlanKey, blob: bytes) -> None:
        """Keeps them, in the place of those of another GPU or library, if there is room.

        Raises: ResourceError (disk).
        """
        data = hashlib.sha256(blob).digest() + blob
        path = self._timings_path(key)
        with self._alone():
            for other in self._folder.glob(f"*{TIMINGS}"):
                if other != path:
                    other.unlink()
            if blob and len(data) <= min(self._room.room_bytes(), _TIMINGS_BYTES_MAX):
                self._write(path, data)

    def _timings_path(self, key: PlanKey) -> Path:
        return self._folder / f"{key.maker}{TIMINGS}"

    def tidy(self) -> None:
        """Drops the plans of artifacts that the device no longer has."""
        held = {str(artifact) for artifact in self._room.held()}
        with self._alone():
            for one in self._swept():
                if one.key.artifact not in held:
                    self.drop(one)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes may make plans: a trial's child, and the one that serves."""
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _swept(self) -> tuple[Kept, ...]:
        """All that is kept; what a process left that was killed while it wrote is removed."""
        kept = self.all()
        names = {one.key.name for one in kept}
        for path in self._folder.iterdir():
            if path.suffix in (INDEX, PLAN) and path.stem not in names:
                path.unlink()
        return kept

    def _line(self, path: Path) -> Kept | None:
        try:
            data = _read_ours(path, None, _INDEX_BYTES_MAX)
            kept = msgspec.json.decode(data, type=Kept)
            changed_ns = path.stat().st_mtime_ns
        except (OSError, msgspec.MsgspecError):
            return None
        return replace(kept, changed_ns=changed_ns) if kept.key.name == path.stem else None

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        with whole_file(path, replace=True) as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(data)

    def _path(self, kept: Kept, suffix: str) -> Path:
        return self._folder / f"{kept.key.name}{suffix}"


def _make_private(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise UsageError(f"{folder} must be a folder of the user who runs this, for plans alone")
    if found.st_mode & 0o022:  # others could have put anything there, an index line as well
        for path in folder.iterdir():
            path.unlink()
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _read_ours(path: Path, size_bytes: int | None, bytes_max: int) -> bytes:
    """A regular file of ours, of that size where one is given. Raises: OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(handle, "rb") as stream:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(1, "not a plain file of ours")
        wanted = found.st_size if size_bytes is None else size_bytes
        if found.st_size != wanted or wanted > bytes_max:
            raise OSError(5, f"has {found.st_size} bytes, not {wanted}")
        return stream.read(wanted)
