"""The folder ``identity`` of a distributor: its authorities and the key of its listeners.

Authorities are numbered in the order in which they came. The newest signs what is issued from
now on; the oldest vouches for the listeners, since every device knows it. All of them are
believed. Each file appears whole, readable by nobody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from distributor.identity.authority import (
    Authority,
    is_issued_by,
    issue_server,
    key_pem,
    load_authority,
    make_authority,
    server_names,
    vouch_for,
)
from edge_sdk.base import (
    FormatError,
    NotFoundError,
    RefusedError,
    explain_os_error,
    sync_folder,
    whole_file,
)
from edge_sdk.identity import fingerprint, to_der

_NUMBERED = re.compile(r"authority-([0-9]{4})\.pem\Z")
_SERVER = "listeners.pem"
_RETIRED = "retired.pem"  # still believed of an expired certificate, with what vouches for others


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """Those in force, oldest first. ``retired`` (PEM) are those that were."""

    known: tuple[Authority, ...]
    retired: bytes = b""
    bridges: bytes = b""  # newer authorities, vouched for by retired ones

    @property
    def serving(self) -> Authority:
        return self.known[0]

    @property
    def issuing(self) -> Authority:
        return self.known[-1]

    @property
    def roots(self) -> bytes:
        return b"".join(one.certificate for one in self.known)

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """Whom devices and operators trust from now on (DER)."""
        return to_der(self.roots)

    @property
    def shown(self) -> tuple[bytes, ...]:
        """What first contact shows (DER): also those whose tokens may still be around."""
        return to_der(self.roots + self.retired)

    def issued(self, certificate: bytes) -> bool:
        """Whether one of them, or one that was, signed it (DER)."""
        every = (*(one.certificate for one in self.known), *_each(self.retired))
        return any(is_issued_by(certificate, one) for one in every)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFiles:
    """What a listener needs, in PEM."""

    key: bytes = field(repr=False)
    chain: bytes
    roots: bytes


class IdentityFolder:
    """Within the data folder. Raises NotFoundError where nothing was made here yet."""

    def __init__(self, data: Path) -> None:
        self.root = data / "identity"
        self.operator_token = self.root / "first-operator.token"

    def create(self, given: Authority | None = None) -> bool:
        """Makes it with a first authority; false where it is there already."""
        if self._numbers():
            return False
        try:
            self.root.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.root) from error
        self.add(given or make_authority())
        return True

    def load(self) -> Authorities:
        """Raises: NotFoundError, FormatError."""
        numbers = self._numbers()
        if not numbers:
            raise NotFoundError(
                f"there is no authority in {self.root}; make one with: edge-distributor init"
            )
        known = tuple(self._read(number) for number in numbers)
        retired = self._text(_RETIRED)
        old = [one for one in _each(retired) if fingerprint(one) not in _own(known)]
        plain = [one for one in old if is_issued_by(to_der(one)[0], one)]
        bridges = [one for one in old if one not in plain]
        return Authorities(known=known, retired=b"".join(plain), bridges=b"".join(bridges))

    def add(self, authority: Authority) -> None:
        """From now on it signs what is issued."""
        numbers = self._numbers()
        name = f"authority-{(numbers[-1] if numbers else 0) + 1:04d}.pem"
        write_secret(self.root / name, key_pem(authority.key) + authority.certificate)

    def retire(self, which: str) -> str:
        """Takes the oldest away, whose fingerprint begins with ``which``; its fingerprint.

        It goes on vouching for the one after it, so that who knows only the old one still
        finds the way. Raises: NotFoundError, RefusedError (the last one, or not the oldest).
        """
        known = self.load().known
        found = [one for one in known if which and one.fingerprint.startswith(which)]
        if len(found) != 1:
            raise NotFoundError(f"no authority here has a fingerprint that begins with {which!r}")
        if len(known) == 1:
            raise RefusedError("this is the only authority; add another one first")
        if found[0] is not known[0]:
            raise RefusedError("authorities are retired oldest first")
        oldest = known[0]
        bridges = b"".join(vouch_for(oldest, one) for one in known[1:])
        write_secret(self.root / _RETIRED, self._text(_RETIRED) + oldest.certificate + bridges)
        (self.root / f"authority-{self._numbers()[0]:04d}.pem").unlink()
        (self.root / _SERVER).unlink(missing_ok=True)
        sync_folder(self.root)
        return oldest.fingerprint

    def server(self, names: frozenset[str]) -> ServerFiles:
        """Key and chain of the listeners, made anew where names or authority changed."""
        authorities = self.load()
        text = self._text(_SERVER)
        if not self._serves(text, authorities.serving, names):
            key, certificate = issue_server(authorities.serving, sorted(names))
            text = key + certificate
            write_secret(self.root / _SERVER, text)
        begin = text.index(b"-----BEGIN CERTIFICATE-----")
        # Not the authority itself: who knows only a retired one must come upon the bridge.
        chain = text[begin:] + authorities.bridges
        return ServerFiles(key=text[:begin], chain=chain, roots=authorities.roots)

    def changed_at(self) -> tuple[int, ...]:
        """Differs from before when something here was replaced."""
        entries = sorted(self.root.glob("*.pem"))
        return tuple(one.stat().st_mtime_ns for one in entries)

    def _serves(self, text: bytes, authority: Authority, names: frozenset[str]) -> bool:
        begin = text.find(b"-----BEGIN CERTIFICATE-----")
        if begin < 0:
            return False
        try:
            der = to_der(text[begin:])[0]
            return is_issued_by(der, authority.certificate) and names <= server_names(text[begin:])
        except FormatError:
            return False

    def _numbers(self) -> list[int]:
        if not self.root.is_dir():
            return []
        found = (_NUMBERED.match(one.name) for one in self.root.iterdir())
        return sorted(int(one.group(1)) for one in found if one)

    def _read(self, number: int) -> Authority:
        text = self._text(f"authority-{number:04d}.pem")
        begin = text.find(b"-----BEGIN CERTIFICATE-----")
        if begin < 0:
            raise FormatError(f"authority {number} in {self.root} is damaged: put a copy back")
        return load_authority(text[begin:], text[:begin])

    def _text(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise explain_os_error(error, self.root / name) from error


def write_secret(path: Path, data: bytes) -> None:
    """Whole, durable, and from its first byte on readable by its owner alone."""
    with whole_file(path, replace=True, private=True) as stream:
        stream.write(data)


def _own(known: tuple[Authority, ...]) -> frozenset[str]:
    return frozenset(one.fingerprint for one in known)


def _each(text: bytes) -> list[bytes]:
    """The certificates of a PEM text, one by one."""
    end = b"-----END CERTIFICATE-----\n"
    return [one + end for one in text.split(end) if one.strip()]
