"""Signed heads: how long the log was and where it ended, signed with an online key.

The form is the checkpoint of C2SP (tlog-checkpoint, signed-note), except that the hash is the
head of a chain and not a Merkle root: lines with the log's name, its size and its head, then
lines of our own, an empty line, and the signature.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Signer, SSlibKey

from edge_sdk.audit.chain import first_link
from edge_sdk.base import Digest, FormatError, TrustError, UsageError

NOTE_BYTES_MAX = 4096
_ED25519 = b"\x01"
_SIGNATURE = re.compile(r"— (\S+) (\S+)")
_NAME = re.compile(r"[!-*,-~]{1,128}\Z")  # printable ASCII without white space and "+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A log's state at one moment. An empty log's head is that of its name alone."""

    origin: str
    size: int
    digest: Digest
    at_ms: int

    def text(self) -> str:
        hashed = base64.b64encode(self.digest.raw).decode()
        return f"{self.origin}\n{self.size}\n{hashed}\nat {self.at_ms}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """The public key of a log's heads, bound to the log's name. Text: ``name+id+key``."""

    name: str
    public: bytes  # 32 bytes, Ed25519

    @classmethod
    def of(cls, name: str, key: SSlibKey) -> VerifierKey:
        """Raises: UsageError (a key that is not Ed25519 cannot sign heads)."""
        if key.scheme != "ed25519":
            raise UsageError(f"heads of the audit log are signed with Ed25519, not {key.scheme}")
        return cls(name=name, public=bytes.fromhex(key.keyval["public"]))

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Raises: FormatError."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        if not _NAME.match(name) or len(raw) != 33 or raw[:1] != _ED25519:
            raise FormatError(f"{text[:80]!r} is no key of an audit log")
        key = cls(name=name, public=raw[1:])
        if key.key_id.hex() != key_id:
            raise FormatError(f"the key of audit log {name} is damaged: its id does not fit")
        return key

    @property
    def key_id(self) -> bytes:
        return Digest.of(self.name.encode() + b"\n" + _ED25519 + self.public).raw[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


def sign_note(head: Head, signer: Signer) -> str:
    """The signed note of a head. Raises: UsageError (not an Ed25519 key)."""
    if not isinstance(signer.public_key, SSlibKey):
        raise UsageError("heads of the audit log are signed with Ed25519")
    key = VerifierKey.of(head.origin, signer.public_key)
    signature = bytes.fromhex(signer.sign(head.text().encode()).signature)
    encoded = base64.b64encode(key.key_id + signature).decode()
    return f"{head.text()}\n— {head.origin} {encoded}\n"


def open_note(note: str, key: VerifierKey) -> Head:
    """The head that a note states. Raises: TrustError where ``key`` did not sign it."""
    if len(note) > NOTE_BYTES_MAX:
        raise TrustError(f"a head of {len(note)} characters is none")
    text, found, signatures = note.partition("\n\n")
    text += "\n"
    if not found or not any(_signed(text, line, key) for line in signatures.splitlines()):
        raise TrustError(
            f"the head of the audit log is not signed by the key that is known of it ({key.name}): "
            "somebody else answers, or the distributor's audit key was replaced",
            key=str(key),
        )
    return _read(text)


def _signed(text: str, line: str, key: VerifierKey) -> bool:
    match = _SIGNATURE.fullmatch(line)
    if match is None or match[1] != key.name:
        return False
    try:
        raw = base64.b64decode(match[2], validate=True)
        if raw[:4] != key.key_id:
            return False
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _read(text: str) -> Head:
    """Raises: TrustError. Only what somebody signed comes here."""
    lines = text.splitlines()
    try:
        origin, size, hashed, at = lines
        head = Head(
            origin=origin,
            size=int(size),
            digest=Digest(base64.b64decode(hashed, validate=True)),
            at_ms=int(at.removeprefix("at ")),
        )
    except (ValueError, FormatError):
        raise TrustError("the signed head of the audit log cannot be read") from None
    if head.text() != text or (head.size == 0 and head.digest != first_link(origin)):
        raise TrustError("the signed head of the audit log contradicts itself")
    return head
