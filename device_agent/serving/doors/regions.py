"""System shared memory that apps registered: POSIX objects whose names begin with one prefix.

Nothing is mapped: a client that shrinks its object would end this process with SIGBUS. Reads
and writes go through the descriptor and cost 20 us more for 600 KB than a mapping would.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from device_agent.access import OWNER, Access
from edge_sdk.base import ConflictError, EdgeError, NotFoundError, ResourceError, UsageError
from edge_sdk.engines.contract import Array

REGIONS_MAX = 256  # a descriptor each
_FOLDER = Path("/dev/shm")  # noqa: S108 - where shm_open puts its objects
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What a client registered: ``key`` as it gave it."""

    name: str
    key: str
    offset: int
    size_bytes: int


class _Open:
    """A region with its descriptor and how many requests use it."""

    __slots__ = ("fd", "region", "users")

    def __init__(self, region: Region, fd: int) -> None:
        self.region = region
        self.fd = fd
        self.users = 0


class RegionPart:
    """A stretch of a region, good for as long as the request that took it lasts."""

    __slots__ = ("_fd", "_name", "_start", "size_bytes")

    def __init__(self, name: str, fd: int, start: int, size_bytes: int) -> None:
        self._name = name
        self._fd = fd
        self._start = start
        self.size_bytes = size_bytes

    def __len__(self) -> int:
        return self.size_bytes

    def read(self) -> bytes:
        """Raises: UsageError where the client has made its object smaller."""
        data = os.pread(self._fd, self.size_bytes, self._start)
        if len(data) < self.size_bytes:
            raise self._shrunk()
        return data

    def read_into(self, array: Array) -> None:
        """Fills a contiguous array of exactly this many bytes. Raises: UsageError."""
        if array.nbytes and os.preadv(self._fd, [array.data], self._start) < array.nbytes:
            raise self._shrunk()

    def write(self, data: bytes | Array) -> None:
        """Puts ``data`` at the beginning of the part. Raises: EdgeError."""
        size_bytes = bytes_of(data)
        if size_bytes > self.size_bytes:
            raise EdgeError(
                f"shared memory size specified with the request ({self.size_bytes} bytes of "
                f"region {self._name!r}) should be at least {size_bytes} bytes to hold the results"
            )
        try:
            content = data if isinstance(data, bytes) else data.data
            written = os.pwrite(self._fd, content, self._start) if size_bytes else 0
        except OSError as error:
            raise EdgeError(f"shared memory region {self._name!r}: {error.strerror}") from None
        if written < size_bytes:
            raise EdgeError(f"shared memory region {self._name!r} took only {written} bytes")

    def _shrunk(self) -> UsageError:
        return UsageError(f"shared memory region {self._name!r} is smaller than it was registered")


class Regions:
    """Registered by one client, used by its requests: by name, across connections."""

    def __init__(self, prefix: str, access: Access = OWNER) -> None:
        """``prefix`` of the names that may be registered, without a leading slash; ``access``:
        who may ask models here, and so may have this process read and write an object."""
        self._prefix = prefix
        self._access = access
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    def register(self, region: Region) -> None:
        """Raises: ConflictError (name taken), ResourceError (too many), EdgeError (no such
        object under the prefix), UsageError (it is smaller than that)."""
        with self._lock:
            if region.name in self._open:
                raise ConflictError(f"shared memory region {region.name!r} already in manager")
            if len(self._open) >= REGIONS_MAX:
                raise ResourceError(f"{REGIONS_MAX} shared memory regions are registered already")
            self._open[region.name] = _Open(region, self._open_object(region))

    def _open_object(self, region: Region) -> int:
        name = region.key.removeprefix("/")
        if "/" in name or "\0" in name or not name.startswith(self._prefix):
            raise EdgeError(
                f"Unable to open shared memory region: {region.key!r}; names here begin with "
                f"{self._prefix!r} and have no slash inside"
            )
        try:
            fd = os.open(_FOLDER / name, _FLAGS)
        except OSError as error:
            raise EdgeError(
                f"Unable to open shared memory region: {region.key!r}: {error.strerror}"
            ) from None
        status = os.fstat(fd)
        if not self._is_theirs(status):
            os.close(fd)
            raise EdgeError(
                f"Unable to open shared memory region: {region.key!r}: it is neither the agent's "
                "user's nor open to the group of those who may ask models"
            )
        if (
            not stat.S_ISREG(status.st_mode)
            or not region.name
            or not 0 < region.size_bytes <= status.st_size - region.offset
        ):
            os.close(fd)
            raise UsageError(
                f"failed to register shared memory region {region.name!r}: {region.key!r} has "
                f"{status.st_size} bytes, asked for are {region.size_bytes} from {region.offset}"
            )
        return fd

    def _is_theirs(self, status: os.stat_result) -> bool:
        """Whether those who may ask could open it themselves: an agent that may open more than
        they must not do so for them."""
        if status.st_uid == os.geteuid():
            return True
        for bits, member in (
            (stat.S_IRGRP | stat.S_IWGRP, status.st_gid == self._access.gid),
            (stat.S_IROTH | stat.S_IWOTH, True),
        ):
            if member and status.st_mode & bits == bits:
                return True
        return False

    def status(self, name: str) -> tuple[Region, ...]:
        """One, or all where ``name`` is empty. Raises: NotFoundError."""
        with self._lock:
            if not name:
                return tuple(one.region for one in self._open.values())
            if name not in self._open:
                raise NotFoundError(f"Unable to find system shared memory region: {name!r}")
            return (self._open[name].region,)

    def unregister(self, name: str) -> None:
        """An unknown one is fine. Raises: EdgeError while a request uses it."""
        with self._lock:
            one = self._open.get(name)
            if one is None:
                return
            if one.users:
                raise EdgeError(
                    f"Cannot unregister shared memory region {name!r}, it is currently in use."
                )
            os.close(self._open.pop(name).fd)

    def unregister_all(self) -> None:
        """Raises: EdgeError that names those in use; the others are gone."""
        with self._lock:
            kept = [name for name, one in self._open.items() if one.users]
            for name in set(self._open) - set(kept):
                os.close(self._open.pop(name).fd)
        if kept:
            raise EdgeError(
                "Failed to unregister the following system shared memory regions: "
                + ", ".join(kept)
            )

    @contextmanager
    def use(self) -> Iterator[Use]:
        """For one request: what it takes parts of stays registered until the block ends."""
        use = Use(self._open, self._lock)
        try:
            yield use
        finally:
            use.release()

    def close(self) -> None:
        """At the end, when no request is inside."""
        with self._lock, suppress(OSError):
            while self._open:
                os.close(self._open.popitem()[1].fd)


class Use:
    """The regions that one request takes parts of."""

    def __init__(self, known: dict[str, _Open], lock: threading.Lock) -> None:
        self._known = known
        self._lock = lock
        self._taken: list[_Open] = []

    def part(self, name: str, offset: int, size_bytes: int) -> RegionPart:
        """Raises: NotFoundError; UsageError where it leads out of the region."""
        with self._lock:
            one = self._known.get(name)
            if one is None:
                raise NotFoundError(f"Unable to find shared memory region: {name!r}")
            whole_bytes = one.region.size_bytes
            if not 0 <= offset < whole_bytes:
                raise UsageError(f"Invalid offset for shared memory region: {name!r}")
            if not 0 <= size_bytes <= whole_bytes - offset:
                raise UsageError(f"Invalid offset + byte size for shared memory region: {name!r}")
            one.users += 1
        self._taken.append(one)
        return RegionPart(name, one.fd, one.region.offset + offset, size_bytes)

    def release(self) -> None:
        """Before the answer is sent: who unregisters right after it must not find it in use."""
        with self._lock:
            while self._taken:
                self._taken.pop().users -= 1


def bytes_of(data: bytes | Array) -> int:
    return len(data) if isinstance(data, bytes) else data.nbytes
