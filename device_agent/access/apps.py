"""The apps that may ask over TCP: their names and roles, and of their tokens the digest alone.

The file is the owner's. It is read again whenever it changed, so that an app that is removed
has no way in from then on.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from device_agent.access.roles import ROLES, Role
from edge_sdk.base import (
    ConflictError,
    FormatError,
    NotFoundError,
    TrustError,
    UsageError,
    check_segment,
    explain_os_error,
    whole_file,
)

_FORMAT = 1
_APPS = "apps.json"
_OWN = "own.token"
_TOKEN_BYTES = 32
_BEGIN = "edge-app."
_FILE_BYTES_MAX = 1 << 20
_LOOK_S = 0.05


class App(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``digest``: SHA-256 of the token, which has 256 random bits and needs no salt."""

    name: str
    roles: tuple[Role, ...]
    digest: str
    created_ms: int


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: int
    apps: tuple[App, ...]


class AppTokens:
    """Those of one state folder. For any number of threads and processes."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._path = state / _APPS
        self._own = state / _OWN
        self._lock = threading.Lock()
        self._looked_s = -math.inf
        self._seen: tuple[object, ...] = ()
        self._by_digest: Mapping[str, App] = {}
        self._shown: dict[str, frozenset[Role]] = {}  # of tokens that were shown, and are good

    def roles_of(self, token: str) -> frozenset[Role]:
        """Nothing for a token that nobody was given, and for all where the files are damaged or
        open to others. A token that was good is believed for 50 ms: to look at the files takes
        a tenth of a small request's time."""
        now_s = self._clock()
        if now_s - self._looked_s < _LOOK_S:
            roles = self._shown.get(token)
            if roles is not None:
                return roles
        self._look()
        self._looked_s = now_s
        shown = self._shown
        app = self._by_digest.get(_digest(token))
        if app is None:
            return frozenset()
        shown[token] = roles = frozenset(app.roles)
        return roles

    def apps(self) -> tuple[App, ...]:
        """Raises: FormatError, TrustError (somebody else may write there)."""
        return _read(self._path)

    def add(self, name: str, roles: Collection[Role]) -> str:
        """A new app; its token, which stands nowhere. Raises: ConflictError, UsageError."""
        check_segment(name, "app")
        if not roles or not set(roles) <= set(ROLES):
            raise UsageError(f"an app has one role or more of {', '.join(ROLES)}")
        token = _BEGIN + secrets.token_urlsafe(_TOKEN_BYTES)
        made = App(
            name=name,
            roles=tuple(role for role in ROLES if role in roles),
            digest=_digest(token),
            created_ms=time.time_ns() // 1_000_000,
        )
        with self._changing() as apps:
            if any(app.name == name for app in apps):
                raise ConflictError(f"there is an app {name!r} already: remove it first")
            self._write((*apps, made))
        return token

    def remove(self, name: str) -> None:
        """Raises: NotFoundError."""
        with self._changing() as apps:
            left = tuple(app for app in apps if app.name != name)
            if len(left) == len(apps):
                raise NotFoundError(f"there is no app {name!r}")
            self._write(left)

    @contextmanager
    def _changing(self) -> Iterator[tuple[App, ...]]:
        """The apps as they are, while nobody else changes them."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield self.apps()
        finally:
            os.close(folder)

    def _write(self, apps: tuple[App, ...]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_File(format=_FORMAT, apps=apps)))
        try:
            _write_own(self._path, data + b"\n")
        except OSError as error:
            raise explain_os_error(error, self._path) from None
        self._looked_s = -math.inf

    def _look(self) -> None:
        now = (_stamp(self._path), _stamp(self._own))
        if now == self._seen:
            return
        with self._lock:
            self._seen = ()
            self._by_digest = self._all()
            self._shown = {}
            self._seen = now

    def _all(self) -> dict[str, App]:
        found: dict[str, App] = {}
        with suppress(FormatError, TrustError):
            found = {app.digest: app for app in _read(self._path)}
        with suppress(OSError, TrustError):
            token = _text(self._own)
            if token.startswith(_BEGIN):  # not one that was cut off
                own = App(name="", roles=ROLES, digest=_digest(token), created_ms=0)
                found[own.digest] = own
        return found


def own_token(state: Path, *, make: bool = False) -> str:
    """What the agent's own commands show, from a file of the owner's; empty: there is none.

    ``make``: there is one from now on. Raises: TrustError, OSError.
    """
    path = state / _OWN
    with suppress(FileNotFoundError):
        token = _text(path)
        if token or not make:
            return token
    if not make:
        return ""
    _write_own(path, (_BEGIN + secrets.token_urlsafe(_TOKEN_BYTES) + "\n").encode())
    return _text(path)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: Path) -> tuple[App, ...]:
    try:
        text = _text(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise explain_os_error(error, path) from None
    try:
        found = msgspec.json.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise FormatError(f"{path} is no list of apps: {error}") from None
    if found.format != _FORMAT:
        raise FormatError(f"{path} has format {found.format}, known is {_FORMAT}")
    return found.apps


def _text(path: Path) -> str:
    """Raises: OSError; TrustError where somebody else could have written it."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(handle)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise TrustError(f"{path} is open to others than its owner: chmod 600 {path}")
        data = os.read(handle, _FILE_BYTES_MAX)
    finally:
        os.close(handle)
    return data.decode("utf-8", "replace").strip()


def _write_own(path: Path, data: bytes) -> None:
    """Whole or not at all, and never readable for others, not even for a moment."""
    with whole_file(path, replace=True) as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(data)
