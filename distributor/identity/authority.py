"""The fleet's own certificate authority: P-256, and key identifiers on everything.

Two authorities with one subject name and no key identifiers cannot be told apart by the
library under gRPC, which would try the wrong key of the two during a rollover. What devices
check is valid from 1970 to 9999, since a device may have no idea of the time; short life
belongs to the certificates that the distributor checks, by its own clock.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_sdk.base import FormatError, UsageError
from edge_sdk.identity import RequestFacts, fingerprint, spiffe_id

_ALWAYS_FROM = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ALWAYS_TO = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_BACKDATED_S = 3600.0  # of what a distributor issues: clocks of replicas differ a little


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """``certificate`` is PEM; ``key`` signs."""

    certificate: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)

    @property
    def key_identifier(self) -> str:
        """What its certificates name as who signed them."""
        return x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()).digest.hex()

    @property
    def x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)


def make_authority() -> Authority:
    """A new one that vouches for itself. Its name is made from its key, so no two are alike."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _authority_name(key.public_key())
    return Authority(certificate=_certify_authority(key, name, key.public_key(), name), key=key)


def load_authority(certificate: bytes, key: bytes) -> Authority:
    """From PEM, also one that an outside authority vouches for. Raises: UsageError."""
    try:
        found = serialization.load_pem_private_key(key, None)
        own = x509.load_pem_x509_certificate(certificate)
        constraints = own.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        raise UsageError(
            "the authority cannot be read: give its certificate and its P-256 key in PEM, not "
            "encrypted"
        ) from None
    if not isinstance(found, ec.EllipticCurvePrivateKey) or own.public_key() != found.public_key():
        raise UsageError("the authority's key is not the key of its certificate")
    if not constraints.ca:
        raise UsageError("the certificate is none of an authority: it must not sign others")
    return Authority(certificate=certificate, key=found)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def vouch_for(older: Authority, newer: Authority) -> bytes:
    """A certificate (PEM) of ``newer`` by ``older``: who trusts only the older one follows."""
    key = newer.key.public_key()
    return _certify_authority(older.key, older.x509.subject, key, newer.x509.subject)


def issue_server(authority: Authority, names: Iterable[str]) -> tuple[bytes, bytes]:
    """A key and a certificate (PEM) for a listener that is reached under ``names``."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([_general_name(one) for one in names])
    built = (
        _builder(authority, x509.Name([]), key.public_key(), _ALWAYS_FROM, _ALWAYS_TO)
        .add_extension(alternatives, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return key_pem(key), built.public_bytes(serialization.Encoding.PEM)


def issue_client(
    authority: Authority, request: RequestFacts, *, now_s: float, life_s: float
) -> bytes:
    """A certificate (DER) for a device or operator. Nothing but name and key is taken from the
    request."""
    own = x509.load_der_x509_csr(request.der)
    uri = x509.UniformResourceIdentifier(spiffe_id(request.kind, request.name))
    built = (
        _builder(
            authority,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.name)]),
            own.public_key(),
            dt.datetime.fromtimestamp(now_s - min(_BACKDATED_S, life_s), dt.UTC),
            dt.datetime.fromtimestamp(now_s + life_s, dt.UTC),
        )
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.DER)


def is_issued_by(certificate: bytes, authority: bytes) -> bool:
    """Whether the authority (PEM) signed the certificate (DER). Says nothing of dates."""
    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority)
        )
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it did not
        return False
    return True


def server_names(certificate: bytes) -> frozenset[str]:
    """Under which names a listener's certificate (PEM) may be reached. Raises: FormatError."""
    try:
        found = x509.load_pem_x509_certificate(certificate).extensions
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        raise FormatError("the listener's certificate cannot be read") from None
    return frozenset(str(one.value) for one in names)


def _certify_authority(
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
) -> bytes:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_ALWAYS_FROM)
        .not_valid_after(_ALWAYS_TO)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(identifier(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def _builder(
    authority: Authority,
    subject: x509.Name,
    key: CertificatePublicKeyTypes,
    not_before: dt.datetime,
    not_after: dt.datetime,
) -> x509.CertificateBuilder:
    own = authority.x509
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(own.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )


def _authority_name(key: ec.EllipticCurvePublicKey) -> x509.Name:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge fleet {identifier[:16]}")])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise UsageError(f"{name!r} is no name that a machine can have") from None
