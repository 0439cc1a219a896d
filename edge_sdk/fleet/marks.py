"""What this machine saw of fleets' signed metadata: nothing is signed over what is older.

Whoever holds a distributor can show a publisher metadata that were right once. A new version
signed over those would drop what others published since, so the newest that was verified is
kept, durably: the bytes of the timestamp and of the snapshot, which names the version of every
other document, and the versions of what was put from here. Bytes are verified again against the
newest root: what was signed by keys that were replaced falls away, so that a fleet can recover
from a stolen key. A fleet is known by its roots, not by an address.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Timestamp

from edge_sdk.base import (
    FormatError,
    RefusedError,
    TrustError,
    explain_os_error,
    make_private_folder,
    refuse_open_folder,
    whole_file,
)
from edge_sdk.fleet.repository import Repository
from edge_sdk.trust import ROOT, SNAPSHOT, TIMESTAMP, verify

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T", Timestamp, Snapshot)

_BYTES_MAX = 4 << 20


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one fleet. ``roots``: SHA-256 of each root that was verified; ``put``: the versions of
    documents that were put from here and that no snapshot has named yet."""

    roots: tuple[str, ...]
    root_version: int
    timestamp_version: int = 0
    timestamp: bytes = b""
    snapshot: bytes = b""
    put: dict[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is marked, by file. ``unread``: why a mark cannot be read."""

    seen: Mapping[Path, Seen]
    unread: Mapping[Path, Exception]


class TrustMarks:
    """In ``folder``, a file for each fleet. ``first`` hears of a fleet that is new here."""

    def __init__(self, folder: Path, first: Callable[[str], None] = lambda _words: None) -> None:
        self.folder = folder
        self._first = first

    def load(self) -> Known:
        """Everything that is marked; to be read before anything is fetched, since others may
        see something newer meanwhile. Raises: RefusedError (the folder is another's), UsageError
        (it cannot be read)."""
        marks = {file: _read(file) for file in self._files()}
        return Known(
            seen={file: one for file, one in marks.items() if isinstance(one, Seen)},
            unread={file: one for file, one in marks.items() if not isinstance(one, Seen)},
        )

    def follow(self, repository: Repository, known: Known) -> None:
        """Marks what ``repository`` verified. Raises: TrustError where that is older than what
        was ``known`` before it was fetched, FormatError (its mark is damaged: it must not be
        taken for a first time)."""
        roots = tuple(root_digest(one) for one in repository.roots)
        file, seen = self._of(known, roots)
        if seen is not None:
            _check(repository, seen, file)
        with self._locked():
            file, newest = self._of(self.load(), roots)
            self._write(file, _followed(repository, roots, newest))
        if seen is None:
            self._first(
                "the signed metadata of this fleet are seen here for the first time: believed "
                f"from your root on, and marked in {self.folder}"
            )

    def put(self, roots: Sequence[Metadata[Root]], versions: Mapping[str, int]) -> None:
        """The distributor took documents from here, in the fleet of ``roots`` (oldest first,
        a new one among them); ``versions`` are those of all others, by role."""
        digests = tuple(root_digest(one) for one in roots)
        with self._locked():
            file, seen = self._of(self.load(), digests)
            seen = seen or Seen(roots=(), root_version=0)
            put = seen.put | {
                role: max(one, seen.put.get(role, 0)) for role, one in versions.items()
            }
            newest = max(seen.root_version, roots[-1].signed.version)
            whole = tuple(dict.fromkeys((*seen.roots, *digests)))
            self._write(
                file, msgspec.structs.replace(seen, roots=whole, root_version=newest, put=put)
            )

    def _of(self, known: Known, roots: tuple[str, ...]) -> tuple[Path, Seen | None]:
        """The file of the fleet that one of ``roots`` is of, and what it holds.

        Raises: FormatError (or why else a mark cannot be read) where that may be of this fleet:
        it bears its name, or the fleet has no other.
        """
        found: tuple[Path, Seen | None] = self.folder / _name(roots[0]), None
        for file, seen in known.seen.items():
            if not set(roots).isdisjoint(seen.roots):
                found = file, seen
                break
        for file, error in known.unread.items():
            if found[1] is None or file.name in map(_name, roots):
                raise error
        return found

    def _files(self) -> list[Path]:
        """A folder that is not there has none; one that cannot be read is not empty."""
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(one.name for one in entries if one.name.endswith(".json"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        refuse_open_folder(self.folder)
        _refuse_anothers(self.folder)
        return [self.folder / one for one in names]

    def _write(self, file: Path, seen: Seen) -> None:
        with whole_file(file, replace=True, private=True) as stream:
            stream.write(msgspec.json.encode(seen))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time: of two publishers on one machine neither takes the other's marks back."""
        make_private_folder(self.folder)
        _refuse_anothers(self.folder)
        try:
            lock = open(self.folder / ".lock", "ab", opener=_open_no_link)  # noqa: SIM115 - below
        except OSError as error:
            raise explain_os_error(error, self.folder / ".lock") from error
        with lock:
            if fcntl is not None:
                with suppress(OSError):  # no locks on this disk
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def root_digest(root: Metadata[Root]) -> str:
    """Of what it says, whoever signed it and however it is spelt."""
    return hashlib.sha256(root.signed_bytes).hexdigest()


def _name(root: str) -> str:
    return f"{root[:16]}.json"


def _open_no_link(path: str, flags: int) -> int:
    """A link would lead somebody else's file here."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _refuse_anothers(folder: Path) -> None:
    """Who owns it can take marks back. Raises: RefusedError."""
    if os.name == "posix" and folder.stat().st_uid != os.geteuid():
        raise RefusedError(
            f"{folder} belongs to another user, who could take back what is marked in it; name a "
            "folder of your own: --trust-marks, or EDGE_FLEET_HOME"
        )


def _read(file: Path) -> Seen | Exception:
    """The mark, or why it cannot be read: that is said only to whose mark it is."""
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(_BYTES_MAX), type=Seen)
    except OSError as error:
        return explain_os_error(error, file)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _damaged(file)


def _damaged(file: Path) -> FormatError:
    return FormatError(
        f"{file} is damaged: it keeps which signed metadata were seen last; put a copy back, or "
        "compare the versions with another publisher's, and remove it"
    )


def _check(repository: Repository, seen: Seen, file: Path) -> None:
    _check_version(ROOT, repository.root.signed.version, seen.root_version, file)
    newest = root_digest(repository.root)
    if repository.root.signed.version == seen.root_version and newest not in seen.roots:
        raise _older(ROOT, "another root of the same version", file)
    timestamp = _still_signed(TIMESTAMP, seen.timestamp, Timestamp, repository, file)
    now = repository.timestamp.signed
    if timestamp is not None:
        _check_version(TIMESTAMP, now.version, timestamp.version, file)
        _check_version(SNAPSHOT, now.snapshot_meta.version, timestamp.snapshot_meta.version, file)
    snapshot = _still_signed(SNAPSHOT, seen.snapshot, Snapshot, repository, file)
    named = repository.snapshot.signed.meta
    for name, known in {} if snapshot is None else snapshot.meta.items():
        role = name.removesuffix(".json")
        meta = named.get(name)
        _check_version(role, 0 if meta is None else meta.version, known.version, file)
        if meta is not None and meta.version == known.version and meta.hashes != known.hashes:
            raise _older(role, f"another document as its version {meta.version}", file)
    for role, version in seen.put.items():
        meta = named.get(f"{role}.json")
        _check_version(role, 0 if meta is None else meta.version, version, file)


def _still_signed(
    role: str, data: bytes, kind: type[T], repository: Repository, file: Path
) -> T | None:
    """What was seen, if the newest root names who signed it: replaced keys' word has no weight."""
    if not data:
        return None
    try:
        return verify(role, data, kind, by=repository.root).signed
    except TrustError:
        return None
    except FormatError:
        raise _damaged(file) from None


def _check_version(role: str, shown: int, seen: int, file: Path) -> None:
    if shown < seen:
        words = f"version {shown} of it" if shown else "none"
        raise _older(role, words, file, shown=shown, seen=seen)


def _older(role: str, words: str, file: Path, **facts: Any) -> TrustError:
    newer = f", where version {facts['seen']} was seen before" if facts else ""
    return TrustError(
        f"metadata {role}: the distributor shows {words}{newer}. Somebody shows you the past, or "
        "it was restored from an old backup: nothing is signed over that, and devices refuse it "
        "too. Restore what is newer, and ask other publishers what they see; only if the newer is "
        f"lost for good, remove {file}",
        role=role,
        check="rollback",
        **facts,
    )


def _followed(repository: Repository, roots: tuple[str, ...], seen: Seen | None) -> Seen:
    """What is seen from now on; ``seen`` may be newer by now, and then stays."""
    seen = seen or Seen(roots=(), root_version=0)
    now = repository.root.signed.version, repository.timestamp.signed.version
    roots = tuple(dict.fromkeys((*seen.roots, *roots)))
    if (seen.root_version, seen.timestamp_version) > now:
        return msgspec.structs.replace(seen, roots=roots)
    named = repository.snapshot.signed.meta
    return Seen(
        roots=roots,
        root_version=now[0],
        timestamp_version=now[1],
        timestamp=repository.timestamp_bytes,
        snapshot=repository.snapshot_bytes,
        put={role: one for role, one in seen.put.items() if not _is_named(named, role, one)},
    )


def _is_named(named: Mapping[str, MetaFile], role: str, version: int) -> bool:
    meta = named.get(f"{role}.json")
    return meta is not None and meta.version >= version
