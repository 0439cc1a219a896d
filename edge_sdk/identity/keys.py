"""Keys for TLS: P-256, since gRPC accepts neither Ed25519 nor P-521 in a certificate."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.x509.oid import NameOID

from edge_sdk.base import FormatError, TrustError
from edge_sdk.identity.names import Kind, spiffe_id

# Whatever a factory key signs for us begins so: it signs nothing that means something else.
_FACTORY_CONTEXT = b"edge.identity.v1 factory\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryKey:
    """What the manufacturer put into a device (IEEE 802.1AR IDevID): ``chain`` is PEM, the
    device's own certificate first; ``key`` is PEM."""

    chain: bytes
    key: bytes = field(repr=False)


def make_key() -> bytes:
    """A new private key, PKCS#8 in PEM, not encrypted: whoever keeps it keeps it private."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def make_request(key: bytes, kind: Kind, name: str) -> bytes:
    """PKCS#10 (DER) for ``name``, signed by ``key``. Raises: FormatError."""
    uri = x509.UniformResourceIdentifier(spiffe_id(kind, name))
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(_private(key), hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.DER)


def prove(factory_key: bytes, request: bytes) -> bytes:
    """The factory key's word for ``request``. Raises: FormatError."""
    key = _load(factory_key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(_FACTORY_CONTEXT + request, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(_FACTORY_CONTEXT + request, PKCS1v15(), hashes.SHA256())
    raise FormatError("a factory key is an elliptic-curve or an RSA key")


def check_proof(certificate: bytes, request: bytes, proof: bytes) -> None:
    """That the key of ``certificate`` (DER) vouches for ``request``.

    Raises: TrustError, FormatError.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError(f"the factory certificate cannot be read: {error}") from None
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(proof, _FACTORY_CONTEXT + request, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(proof, _FACTORY_CONTEXT + request, PKCS1v15(), hashes.SHA256())
        else:
            raise TrustError("a factory key is an elliptic-curve or an RSA key")
    except InvalidSignature:
        raise TrustError("the factory key did not sign this request") from None


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    found = _load(key)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise FormatError("the private key is no elliptic-curve key")
    return found


def _load(key: bytes) -> object:
    try:
        return serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says may hold parts of the file.
        raise FormatError("the private key cannot be read: it is no PEM file of one") from None
