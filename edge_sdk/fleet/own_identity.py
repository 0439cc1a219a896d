"""The operator's own identity on this machine: a folder with a key, made here, and what vouches
for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_sdk.base import (
    ConflictError,
    EdgeError,
    FormatError,
    RefusedError,
    TrustError,
    UnavailableError,
    UsageError,
    explain_os_error,
    make_private_folder,
    refuse_open_file,
    refuse_open_folder,
    whole_file,
)
from edge_sdk.fleet.home import FleetHome
from edge_sdk.identity import (
    EnrolmentToken,
    Identity,
    Issued,
    Pending,
    enrol,
    first_contact,
    make_key,
    renew,
    renew_expired,
)

_KEY, _CERTIFICATE, _AUTHORITIES = "key.pem", "certificate.pem", "ca.pem"
_WHERE = "enrolment.json"


class _Where(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    enrolment_address: str


def default_folder() -> Path:
    """Beside what else this machine keeps of fleets."""
    return FleetHome.default().root / "identity"


class OwnIdentity:
    """In ``folder``, which nobody else can read."""

    def __init__(self, folder: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._now_s = now_s

    def load(self) -> Identity | None:
        """None: nobody logged in here. Raises: FormatError, RefusedError (others can get at
        what is kept)."""
        if not (self.folder / _CERTIFICATE).exists():
            return None
        refuse_open_folder(self.folder)
        try:
            where = msgspec.json.decode(self._read(_WHERE), type=_Where)
        except msgspec.DecodeError:
            raise FormatError(
                f"the identity in {self.folder} is damaged: log in again with a new token"
            ) from None
        return Identity(
            key=self._read(_KEY),
            certificate=self._read(_CERTIFICATE),
            authorities=self._read(_AUTHORITIES),
            address=where.address,
            enrolment_address=where.enrolment_address,
        )

    def address(self) -> str:
        """Where the distributor is that was logged in to; "": none, or nobody can read it."""
        try:
            return msgspec.json.decode(self._read(_WHERE), type=_Where).address
        except (EdgeError, OSError, msgspec.DecodeError):
            return ""

    def fresh(self) -> Identity | None:
        """The same, with its certificate renewed where it is time for that.

        Raises: FormatError, TrustError (revoked), RefusedError, UnavailableError.
        """
        identity = self.load()
        if identity is None or not identity.should_renew(self._now_s()):
            return identity
        try:
            expired = identity.is_expired(self._now_s())
            self._keep(renew_expired(identity) if expired else renew(identity))
        except UnavailableError:
            return identity  # the call itself will say what is wrong
        return self.load()

    def log_in(self, token: EnrolmentToken, name: str) -> Identity:
        """Enrols ``name`` with a key made here. Repeating it with the same token is safe.

        Raises: UsageError, TrustError (not the fleet of the token, or the token is not
        accepted), ConflictError, RefusedError, UnavailableError.
        """
        if token.kind != "operator":
            raise UsageError(f"this token is for a {token.kind}, not for an operator")
        anchors = first_contact(token)
        self._make_folder()
        pending_key = self.folder / f"{token.token}.key.pem"
        begun = pending_key.exists()
        if not begun:
            self._write(pending_key.name, make_key())
        try:
            answer = enrol(token, anchors, self._read(pending_key.name), name)
        except (TrustError, ConflictError):
            if not begun:  # it was answered, and bound to nothing
                pending_key.unlink(missing_ok=True)
            raise
        if isinstance(answer, Pending):
            raise RefusedError(f"{name} waits for an admin: edge-fleet operators approve {name}")
        where = _Where(address=token.address, enrolment_address=token.enrolment_address)
        self._write(_WHERE, msgspec.json.encode(where))
        (self.folder / _CERTIFICATE).unlink(missing_ok=True)
        self._write(_KEY, self._read(pending_key.name))
        self._keep(answer)
        # Not before all is kept: the token is bound to this key, and takes no other one.
        pending_key.unlink(missing_ok=True)
        found = self.load()
        if found is None:
            raise FormatError(f"the identity in {self.folder} went away while it was written")
        return found

    def _keep(self, issued: Issued) -> None:
        self._write(_AUTHORITIES, issued.authorities)
        self._write(_CERTIFICATE, issued.certificate)

    def _make_folder(self) -> None:
        make_private_folder(self.folder)

    def _read(self, name: str) -> bytes:
        if name.endswith(_KEY):
            refuse_open_file(self.folder / name)
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise explain_os_error(error, self.folder / name) from error

    def _write(self, name: str, data: bytes) -> None:
        with whole_file(self.folder / name, replace=True, private=True) as stream:
            stream.write(data)
