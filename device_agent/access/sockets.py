"""Unix sockets that are one process's own, and open to one group.

gRPC takes a path away from whoever listens there, gives the socket the mode of the umask, and
says nothing of who connects. So whoever listens holds a lock beside the socket for as long as
it does, and binds in a folder that nobody else can enter: the socket appears at its path with
its group and mode, in one step, and a role is a socket.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import hashlib
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.base import ConflictError, EdgeError, NotFoundError, RefusedError, UsageError

_UNIX = "unix:"
_TRIES = 8  # at a lock file that is removed between opening and locking it
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may connect: ``gid`` None: the agent's own user alone."""

    gid: int | None = None

    @property
    def mode(self) -> int:
        return 0o600 if self.gid is None else 0o660


OWNER = Access()


def access_of(group: str) -> Access:
    """By a group's name or number; empty: the owner alone. Raises: UsageError."""
    if not group:
        return OWNER
    try:
        return Access(gid=int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
    except KeyError:
        raise UsageError(f"there is no group {group!r} on this device") from None


class OwnSocket:
    """An address to listen at, ours until ``close``; TCP addresses pass through.

    Bind at ``bind_address`` (a socket file, or the TCP address), then ``show``.
    """

    def __init__(self, address: str, access: Access = OWNER) -> None:
        """Raises: ConflictError (somebody listens there), NotFoundError (no such folder),
        RefusedError (the group could not come there, or everybody could replace it),
        UsageError (what is there is no socket)."""
        self.address = address
        self.bind_address = address
        self._access = access
        self._lock: int | None = None
        self._identity: tuple[int, int] | None = None
        if not address.startswith(_UNIX):
            return
        self.path = Path(address.removeprefix(_UNIX))
        if not self.path.parent.is_dir():
            raise NotFoundError(f"no folder {self.path.parent} for the socket {self.path}")
        _check_folder(self.path.parent, access)
        self._lock = _locked(self._lock_path)
        try:
            _refuse_live(self.path)
            self._folder = _private_folder(self.path)
        except BaseException:
            self._unlock()
            raise
        self.bind_path = self._folder / "s"
        self.bind_address = f"{_UNIX}{self.bind_path}"

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def show(self) -> None:
        """What is bound appears at its path, open to whom it is for. Raises: UsageError."""
        if self._lock is None:
            return
        if self._access.gid is not None:
            try:
                os.chown(self.bind_path, -1, self._access.gid)
            except PermissionError:
                raise UsageError(
                    f"{self.path} cannot be given to group {self._access.gid}: the agent's user "
                    "must be a member of it"
                ) from None
        self.bind_path.chmod(self._access.mode)
        status = self.bind_path.stat()
        self._identity = (status.st_dev, status.st_ino)
        self.bind_path.rename(self.path)
        self._folder.rmdir()

    def close(self) -> None:
        """After the listener ended. Takes away nothing that became somebody else's."""
        if self._lock is None:
            return
        with suppress(OSError):
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                self.path.unlink()
        _clear(self._folder)
        self._unlock()

    def __enter__(self) -> OwnSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unlock(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock_path.unlink()
            os.close(self._lock)
            self._lock = None


def remove_dead(address: str) -> None:
    """What a killed process left at ``address``; whoever listens there, or begins to, stays."""
    if address.startswith(_UNIX) and Path(address.removeprefix(_UNIX)).is_socket():
        with suppress(EdgeError), OwnSocket(address) as own:
            own.path.unlink(missing_ok=True)


def _locked(path: Path) -> int:
    """A lock on the file at ``path``, which the kernel lets go of however this process ends."""
    for _ in range(_TRIES):
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConflictError(f"cannot lock {path}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            address = str(path).removesuffix(".lock")
            raise ConflictError(f"another process already listens on {address}") from None
        # Whoever had it before removes the file at its end: then this one locks nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.lstat()):
                return handle
        os.close(handle)
    raise ConflictError(f"{path} comes and goes; is another agent being started there?")


def _refuse_live(path: Path) -> None:
    """A program that takes no lock may listen there. Raises: ConflictError, UsageError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there and is no socket; give another address")
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.settimeout(1.0)  # one whose queue is full is alive
            if probe.connect_ex(str(path)) in (0, errno.EAGAIN):
                raise ConflictError(f"another process already listens on {path}")


def _private_folder(path: Path) -> Path:
    """Beside ``path``, ours alone; one of a killed process is used again."""
    name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:4]
    folder = path.with_name(f".{name}")  # short: a socket's path has 107 bytes at most
    _clear(folder)
    try:
        folder.mkdir(_FOLDER_MODE)
    except OSError as error:
        raise ConflictError(f"cannot make {folder} for a socket: {error.strerror}") from None
    return folder


def _clear(folder: Path) -> None:
    """Nothing that somebody else put there: a link could lead to what is ours elsewhere."""
    with suppress(OSError):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return
    with suppress(OSError):
        (folder / "s").unlink()
    with suppress(OSError):
        folder.rmdir()


def _check_folder(folder: Path, access: Access) -> None:
    """Raises: RefusedError."""
    status = folder.stat()
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise RefusedError(
            f"everybody may replace what is in {folder}: choose a folder for sockets that only "
            "the agent's user can write to"
        )
    if access.gid is None:
        return
    for one in (folder, *folder.absolute().parents):
        status = one.stat()
        as_group = status.st_gid == access.gid and status.st_mode & stat.S_IXGRP
        if not as_group and not status.st_mode & stat.S_IXOTH:
            raise RefusedError(
                f"group {access.gid} cannot come to a socket in {folder}, since {one} is closed "
                "to it: give addresses in a folder that it can enter, such as /run/edge-agent"
            )
