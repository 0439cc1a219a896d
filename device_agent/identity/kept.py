"""The folder ``identity`` of an agent's state.

``key.pem`` comes first and stays; ``certificate.pem`` comes last, so that whatever a power cut
leaves is either an identity or the beginning of one that the same token can finish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from device_agent.errors import StateError
from device_agent.store import Store
from device_agent.store.durable import make_folder, write_whole
from edge_sdk.base import EdgeError
from edge_sdk.identity import (
    CertificateFacts,
    EnrolmentToken,
    Identity,
    Issued,
    fingerprint,
    make_key,
    to_der,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What may be shown of an identity. ``state``: "none", "waiting" or "enrolled"."""

    state: str
    name: str
    address: str
    enrolment_address: str
    certificate: CertificateFacts | None
    authorities: tuple[str, ...]  # fingerprints


class _Where(msgspec.Struct, frozen=True, kw_only=True):
    """``enrolment.json``: where this device enrols, and as whom."""

    name: str
    address: str
    enrolment_address: str


class KeptIdentity:
    """Within the folder of ``store``. Only one thread at a time writes."""

    def __init__(self, store: Store) -> None:
        self._files = store.files
        self.root = store.root / "identity"
        self.marks_path = self.root / "marks"
        self._key = self.root / "key.pem"
        self._certificate = self.root / "certificate.pem"
        self._authorities = self.root / "ca.pem"
        self._where = self.root / "enrolment.json"

    def load(self) -> Identity | None:
        """None: this device is not enrolled. Raises: StateError (what is kept is damaged)."""
        if not self._files.exists(self._certificate):
            return None
        where = self._read_where()
        try:
            found = Identity(
                key=self._files.read(self._key),
                certificate=self._files.read(self._certificate),
                authorities=self._files.read(self._authorities),
                address=where.address,
                enrolment_address=where.enrolment_address,
            )
            if found.facts.name != where.name or not to_der(found.authorities):
                raise StateError(f"{self.root} holds the certificate of {found.facts.name}")
        except (OSError, EdgeError) as error:
            why = error.message if isinstance(error, EdgeError) else error.strerror
            raise StateError(
                f"the identity in {self.root} is damaged ({why}): remove that folder and enrol "
                "again with a token for this name"
            ) from None
        return found

    def close_to_others(self, say: Callable[[str], None]) -> None:
        """Takes rights away that nobody but the agent should have. A device goes on with its
        key, and says so: who could read it may have done so."""
        wanted = [(self.root, 0o022), *((self.root / one, 0o077) for one in self._private())]
        for path, others in wanted:
            try:
                mode = self._files.close_to_others(path, others)
            except FileNotFoundError:
                continue
            except OSError as error:
                say(f"others may get at {path}, and that cannot be changed: {error.strerror}")
                continue
            if mode is not None:
                say(
                    f"others could get at {path} (mode {mode:04o}), which is mended; if somebody "
                    "may have, enrol again with a new key: a token for this device's name"
                )

    def _private(self) -> list[str]:
        return [one for one in self._files.names(self.root) if one != self._authorities.name]

    def begin(self, token: EnrolmentToken, name: str) -> bytes:
        """The key (PEM) to enrol with: a new one, or that of an enrolment that was cut short."""
        make_folder(self._files, self.root, private=True)
        if not self._files.exists(self._key):
            write_whole(self._files, self._key, make_key(), private=True)
        where = _Where(name=name, address=token.address, enrolment_address=token.enrolment_address)
        write_whole(self._files, self._where, msgspec.json.encode(where), private=True)
        return self._files.read(self._key)

    def keep(self, issued: Issued) -> None:
        """Durable when this returns; before, what was there still works."""
        write_whole(self._files, self._authorities, issued.authorities, private=True)
        write_whole(self._files, self._certificate, issued.certificate, private=True)

    def shown(self) -> Shown:
        """Raises: StateError."""
        identity = self.load()
        if identity is not None:
            return Shown(
                state="enrolled",
                name=identity.facts.name,
                address=identity.address,
                enrolment_address=identity.enrolment_address,
                certificate=identity.facts,
                authorities=tuple(fingerprint(one) for one in to_der(identity.authorities)),
            )
        begun = self._files.exists(self._where)
        where = self._read_where() if begun else _Where(name="", address="", enrolment_address="")
        return Shown(
            state="waiting" if begun else "none",
            name=where.name,
            address=where.address,
            enrolment_address=where.enrolment_address,
            certificate=None,
            authorities=(),
        )

    def _read_where(self) -> _Where:
        try:
            return msgspec.json.decode(self._files.read(self._where), type=_Where)
        except (OSError, msgspec.DecodeError):
            raise StateError(
                f"{self._where} is damaged: remove {self.root} and enrol again with a token for "
                "this name"
            ) from None
