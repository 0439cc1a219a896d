"""Certificates and requests for them as values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_sdk.base import FormatError, TrustError
from edge_sdk.identity.names import Kind, parse_spiffe_id

_REQUEST_BYTES_MAX = 4096
# What the library says of bytes that it does not take, some of it only when they are used.
_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What is looked at in a certificate. Times are seconds since 1970; ``key`` is the
    SHA-256 of the public key, ``authority`` the key identifier of who signed it."""

    kind: Kind
    name: str
    serial: str
    key: str
    authority: str
    not_before_s: float
    not_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """A request whose signature holds: whoever made it has the key."""

    kind: Kind
    name: str
    key: str
    der: bytes = field(repr=False)


def read_certificate(certificate: bytes) -> CertificateFacts:
    """``certificate``: the first in PEM, or one in DER.

    Raises: FormatError (no certificate, or it names neither device nor operator).
    """
    found = _load(certificate)
    try:
        kind, name = _named(found.extensions)
        return CertificateFacts(
            kind=kind,
            name=name,
            serial=f"{found.serial_number:x}",
            key=hashlib.sha256(_spki(found.public_key())).hexdigest(),
            authority=_authority(found),
            not_before_s=found.not_valid_before_utc.timestamp(),
            not_after_s=found.not_valid_after_utc.timestamp(),
        )
    except _UNREADABLE as error:
        raise FormatError(f"the certificate cannot be read: {error}") from None


def read_request(request: bytes) -> RequestFacts:
    """Raises: FormatError, TrustError (not signed by the key it names)."""
    if len(request) > _REQUEST_BYTES_MAX:
        raise FormatError(f"a certificate request of {len(request)} bytes is too large")
    try:
        found = x509.load_der_x509_csr(request)
        key = found.public_key()
        if not found.is_signature_valid:
            raise TrustError("the certificate request is not signed by its own key")
        if not (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"):
            raise FormatError("keys of devices and operators are on the curve P-256")
        kind, name = _named(found.extensions)
    except _UNREADABLE as error:
        raise FormatError(f"the certificate request cannot be read: {error}") from None
    return RequestFacts(
        kind=kind, name=name, key=hashlib.sha256(_spki(key)).hexdigest(), der=request
    )


def fingerprint(certificate: bytes) -> str:
    """SHA-256 over the DER form of a certificate in PEM or DER. Raises: FormatError."""
    der = _load(certificate).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def to_pem(certificates: Iterable[bytes]) -> bytes:
    """Certificates (DER) one after the other. Raises: FormatError."""
    return b"".join(_load(one).public_bytes(serialization.Encoding.PEM) for one in certificates)


def to_der(certificates: bytes) -> tuple[bytes, ...]:
    """Every certificate of a PEM file. Raises: FormatError."""
    try:
        found = x509.load_pem_x509_certificates(certificates)
    except ValueError as error:
        raise FormatError(f"no certificates in PEM: {error}") from None
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)


def _load(certificate: bytes) -> x509.Certificate:
    try:
        if certificate.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(certificate)
        return x509.load_der_x509_certificate(certificate)
    except _UNREADABLE as error:
        raise FormatError(f"the certificate cannot be read: {error}") from None


def _named(extensions: x509.Extensions) -> tuple[Kind, str]:
    """Exactly one URI, as SPIFFE demands, and no other name."""
    try:
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        names = []
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise FormatError("a certificate here has exactly one name, a spiffe:// URI")
    return parse_spiffe_id(names[0].value)


def _spki(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _authority(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    return (found.value.key_identifier or b"").hex()
