"""Enrolment tokens: all that somebody needs to come into a fleet, in one line of text.

A token says whom to call and how to know them before it says the secret: the fingerprint of
the fleet's authority, and the digest of its TUF root.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from edge_sdk.base import FormatError
from edge_sdk.identity.names import KINDS, Kind

_PREFIX = "edge1."
_TEXT_MAX = 4096
_SECRET = re.compile(r"[0-9a-f]{64}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_TOKEN_NAME_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentToken:
    """``expires_s`` is seconds since 1970 by the distributor's clock. ``root`` is the SHA-256
    of the TUF root's bytes, empty where the fleet signs nothing yet; ``authority`` that of the
    authority's certificate. An empty ``secret`` leaves enrolling to a factory certificate."""

    enrolment_address: str
    address: str
    kind: Kind
    name: str  # only this one may use it; empty: whoever has it
    authority: str
    root: str
    uses: int
    expires_s: int
    secret: str = field(repr=False)

    @property
    def token(self) -> str:
        """Its public name."""
        return token_name(secret_hash(bytes.fromhex(self.secret)))

    def encode(self) -> str:
        said = msgspec.json.encode(asdict(self), order="sorted")
        return _PREFIX + base64.urlsafe_b64encode(said).rstrip(b"=").decode()

    @staticmethod
    def decode(text: str) -> EnrolmentToken:
        """Raises: FormatError, which shows nothing of the text."""
        body = text.strip()
        if not body.startswith(_PREFIX) or len(body) > _TEXT_MAX:
            raise FormatError("this is no enrolment token: one is a line that begins with edge1.")
        body = body.removeprefix(_PREFIX)
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            found: EnrolmentToken = msgspec.convert(
                msgspec.json.decode(raw, type=dict[str, Any]), EnrolmentToken
            )
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise FormatError("the enrolment token is damaged: copy the whole line") from None
        if found.encode() != _PREFIX + body or not found._is_sound():
            raise FormatError("the enrolment token is damaged: copy the whole line")
        return found

    def _is_sound(self) -> bool:
        return bool(
            self.kind in KINDS
            and (not self.secret or _SECRET.match(self.secret))
            and _DIGEST.match(self.authority)
            and (not self.root or _DIGEST.match(self.root))
        )


def secret_hash(secret: bytes) -> str:
    """What is stored in a secret's place. 256 random bits need no slow hash."""
    return hashlib.sha256(secret).hexdigest()


def token_name(hashed: str) -> str:
    """The public name of a token, from its secret's hash."""
    return hashed[:_TOKEN_NAME_DIGITS]
