"""A signed envelope as it comes in a file: a Sigstore bundle, or the envelope by itself.

https://docs.sigstore.dev/about/bundle/ (version 0.3) around
https://github.com/secure-systems-lab/dsse. Nothing that is read here is believed yet.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import msgspec
from securesystemslib.dsse import Envelope

from edge_sdk.base import Digest, FormatError

EVIDENCE_BYTES_MAX = 2 << 20  # a signature over some eight thousand files
_SIGNATURES_MAX = 4  # each is tried with each key of a policy
_CERTIFICATES_MAX = 8
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MEDIA_TYPES = frozenset(
    {
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A payload with its signatures. ``certificates``: in DER, that of the signer first.

    logged: it speaks of an entry in a public log, as signatures without a lasting key do.
    """

    digest: Digest  # of the whole file
    payload: bytes
    signatures: tuple[bytes, ...]
    certificates: tuple[bytes, ...]
    logged: bool

    def signed_bytes(self) -> bytes:
        """What the signatures are over."""
        return Envelope(self.payload, _PAYLOAD_TYPE, {}).pae()


class _Signature(msgspec.Struct):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class _Certificate(msgspec.Struct, rename="camel"):
    raw_bytes: str


class _Chain(msgspec.Struct):
    certificates: list[_Certificate]


class _Material(msgspec.Struct, rename="camel"):
    certificate: _Certificate | None = None
    x509_certificate_chain: _Chain | None = None
    tlog_entries: list[Any] = []


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


class _Either(msgspec.Struct, rename="camel"):
    payload_type: str | None = None


def read_signed(document: bytes) -> Signed:
    """Raises: FormatError."""
    if len(document) > EVIDENCE_BYTES_MAX:
        raise FormatError(f"evidence of {len(document)} bytes; {EVIDENCE_BYTES_MAX} are allowed")
    if decode(document, _Either).payload_type is not None:
        return _signed(document, decode(document, _Envelope), _Material())
    bundle = decode(document, _Bundle)
    if bundle.media_type not in _MEDIA_TYPES:
        raise FormatError(f"the bundle is {bundle.media_type[:80]!r}; version 0.3 is known here")
    return _signed(document, bundle.dsse_envelope, bundle.verification_material)


def decode(data: bytes, wanted: Any) -> Any:
    """JSON as a value of type ``wanted``. Raises: FormatError."""
    try:
        return msgspec.json.decode(data, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"that is no evidence known here: {error}") from None


def _signed(document: bytes, envelope: _Envelope, material: _Material) -> Signed:
    if envelope.payload_type != _PAYLOAD_TYPE:
        raise FormatError(
            f"the envelope holds {envelope.payload_type[:80]!r}; evidence is {_PAYLOAD_TYPE}"
        )
    chain = material.x509_certificate_chain
    certificates = [material.certificate] if material.certificate is not None else []
    certificates += chain.certificates if chain is not None else []
    if not 1 <= len(envelope.signatures) <= _SIGNATURES_MAX:
        raise FormatError(f"evidence has 1 to {_SIGNATURES_MAX} signatures")
    if len(certificates) > _CERTIFICATES_MAX:
        raise FormatError(f"evidence has at most {_CERTIFICATES_MAX} certificates")
    return Signed(
        digest=Digest.of(document),
        payload=_bytes(envelope.payload),
        signatures=tuple(_bytes(one.sig) for one in envelope.signatures),
        certificates=tuple(_bytes(one.raw_bytes) for one in certificates),
        logged=bool(material.tlog_entries),
    )


def _bytes(text: str) -> bytes:
    """Base64 of either alphabet, as DSSE demands."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError as error:
        raise FormatError(f"evidence holds text that is no base64: {error}") from None
