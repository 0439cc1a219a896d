"""Who signed evidence: a key that a policy names, or a certificate of an authority that it names.

Signatures without a lasting key (Sigstore "keyless") are not believed: to judge them takes
roots and logs of others that change, and come over a network.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature, SSlibKey

from edge_sdk.base import FormatError, TrustError
from edge_sdk.evidence.bundle import Signed

_CHAIN_DEPTH_MAX = 4
_RSA_BITS_MIN = 2048
_RSA_SCHEMES = ("rsa-pkcs1v15-sha256", "rsassa-pss-sha256")
_ED25519_BYTES = 64
_CURVE_HASHES: Mapping[str, tuple[int, HashAlgorithm]] = {
    "secp256r1": (256, SHA256()),
    "secp384r1": (384, SHA384()),
    "secp521r1": (512, SHA512()),
}
# How a subject begins (RFC 4514), a URI, and an address.
_SUBJECT = re.compile(r"([A-Za-z][A-Za-z0-9-]*|[0-9.]+)=")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
ANY_IDENTITY = "*"
# What the library says of certificates that it does not take, some of it only when used.
_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A public key and one way in which it may sign."""

    named: SSlibKey
    public: object


def read_keys(pem: str) -> list[SigningKey]:
    """A public key, once for each way in which it may sign. Raises: FormatError."""
    try:
        return _usable(load_pem_public_key(pem.encode()))
    except _UNREADABLE as error:
        raise FormatError(f"no public key in PEM: {error}") from None


def read_authorities(pem: str) -> list[x509.Certificate]:
    """Raises: FormatError."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except _UNREADABLE as error:
        raise FormatError(f"no certificates in PEM: {error}") from None


def signer_by_key(signed: Signed, keys: Iterable[SigningKey]) -> str | None:
    """The identifier of the first key that signed it."""
    found = _signing_key(signed, keys)
    return None if found is None else f"key {found.named.keyid}"


def signer_by_certificate(
    signed: Signed,
    authorities: Iterable[x509.Certificate],
    identities: Iterable[str],
    *,
    at: datetime,
) -> str:
    """The name of the certificate that signed it, which an authority vouches for at ``at``.

    Raises: TrustError, FormatError.
    """
    try:
        chain = [x509.load_der_x509_certificate(one) for one in signed.certificates]
        own = chain[0]
        _verifier(authorities, at).verify(own, chain[1:])
        if not _may_sign(own):
            raise TrustError("the certificate of who signed the evidence is not for signing")
        names = _names(own)
        keys = _usable(own.public_key())
    except verification.VerificationError as error:
        why = str(error).partition(" (encountered")[0]
        raise TrustError(
            f"no authority of the policy vouches for the evidence's certificate: {why}"
        ) from None
    except _UNREADABLE as error:
        raise FormatError(f"a certificate of the evidence cannot be read: {error}") from None
    allowed = set(identities)
    known = names if ANY_IDENTITY in allowed else [one for one in names if one in allowed]
    if not known:
        shown = ", ".join(names)[:200] or "somebody without a name"
        raise TrustError(f"the evidence is signed by {shown}, whom the policy does not name")
    if _signing_key(signed, keys) is None:
        raise TrustError("the evidence is not signed by the key of its certificate")
    return f"certificate {known[0][:200]}"


def _usable(key: object) -> list[SigningKey]:
    """Raises: ValueError."""
    if not isinstance(key, RSAPublicKey):
        return [SigningKey(named=SSlibKey.from_crypto(key), public=key)]  # type: ignore[arg-type]
    if key.key_size < _RSA_BITS_MIN:
        raise ValueError(f"RSA of {key.key_size} bits; {_RSA_BITS_MIN} at least")
    named = [SSlibKey.from_crypto(key, scheme=one) for one in _RSA_SCHEMES]
    return [SigningKey(named=one, public=key) for one in named]


def _signing_key(signed: Signed, keys: Iterable[SigningKey]) -> SigningKey | None:
    """Whatever the evidence calls its keys: names of keys prove nothing."""
    data = signed.signed_bytes()
    hashed: dict[int, bytes] = {}
    for key in keys:
        for one in signed.signatures:
            if _may_be_of(one, key.public) and _verifies(key, one, data, hashed):
                return key
    return None


def _may_be_of(signature: bytes, key: object) -> bool:
    """By its length and form, which cost nothing."""
    if isinstance(key, Ed25519PublicKey):
        return len(signature) == _ED25519_BYTES
    if isinstance(key, RSAPublicKey):
        return len(signature) == (key.key_size + 7) // 8
    if isinstance(key, EllipticCurvePublicKey):
        return signature[:1] == b"\x30"  # a sequence of two numbers
    return True


def _verifies(key: SigningKey, signature: bytes, data: bytes, hashed: dict[int, bytes]) -> bool:
    """``hashed``: ``data`` by the bits of the hash; large evidence is not hashed for each key."""
    public = key.public
    try:
        if isinstance(public, EllipticCurvePublicKey):
            bits, algorithm = _CURVE_HASHES[public.curve.name]
            if bits not in hashed:
                hashed[bits] = hashlib.new(f"sha{bits}", data).digest()
            public.verify(signature, hashed[bits], ECDSA(Prehashed(algorithm)))
        else:
            key.named.verify_signature(Signature(key.named.keyid, signature.hex()), data)
    except (InvalidSignature, UnverifiedSignatureError):
        return False
    return True


def _verifier(authorities: Iterable[x509.Certificate], at: datetime) -> verification.ClientVerifier:
    every = verification.Criticality.AGNOSTIC
    return (
        verification.PolicyBuilder()
        .store(verification.Store(list(authorities)))
        .time(at)
        .max_chain_depth(_CHAIN_DEPTH_MAX)
        .extension_policies(
            # What they may sign is judged by its name.
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
                x509.ExtendedKeyUsage, every, _check_authority
            ),
            ee_policy=verification.ExtensionPolicy.permit_all(),
        )
        .build_client_verifier()
    )


def _check_authority(
    _policy: object, _certificate: object, uses: x509.ExtendedKeyUsage | None
) -> None:
    """Authorities of servers and devices do not vouch for who signs. Raises: ValueError."""
    allowed = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if uses is not None and not allowed & set(uses):
        raise ValueError("an authority that is not for the signing of code")


def _may_sign(certificate: x509.Certificate) -> bool:
    """A key for the signing of code, or for signatures and not for something else."""
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return ExtendedKeyUsageOID.CODE_SIGNING in uses
    except x509.ExtensionNotFound:
        pass
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate) -> list[str]:
    """URIs, addresses and hosts that it is for, and its subject; none that reads as of another
    kind: a host that is called ``CN=ada`` is not Ada."""
    subject = certificate.subject.rfc4514_string()
    found = [subject] if subject else []
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    kinds = (x509.UniformResourceIdentifier, x509.RFC822Name, x509.DNSName)
    said = [(str(one.value), type(one)) for one in named if isinstance(one, kinds)]
    return [text for text, kind in said if _kind(text) is kind] + found


def _kind(name: str) -> type[x509.GeneralName]:
    if _SUBJECT.match(name):
        return x509.DirectoryName
    if _URI.match(name):
        return x509.UniformResourceIdentifier
    return x509.RFC822Name if "@" in name else x509.DNSName
