"""Who signed evidence: a key that a policy names, or a certificate of an authority that it names.

Signatures without a lasting key (Sigstore "keyless") are not believed: to judge them takes
roots and logs of others that change, and come over a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
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
ANY_IDENTITY = "*"
# What the library says of certificates that it does not take, some of it only when used.
_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


def read_keys(pem: str) -> list[SSlibKey]:
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


def signer_by_key(signed: Signed, keys: Iterable[SSlibKey]) -> str | None:
    """The identifier of the first key that signed it."""
    return next((f"key {one.keyid}" for one in keys if _is_signed_by(signed, one)), None)


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
        shown = ", ".join(names)[:200]
        raise TrustError(f"the evidence is signed by {shown}, whom the policy does not name")
    if not any(_is_signed_by(signed, one) for one in keys):
        raise TrustError("the evidence is not signed by the key of its certificate")
    return f"certificate {known[0][:200]}"


def _usable(key: object) -> list[SSlibKey]:
    """Raises: ValueError."""
    if not isinstance(key, RSAPublicKey):
        return [SSlibKey.from_crypto(key)]  # type: ignore[arg-type]
    if key.key_size < _RSA_BITS_MIN:
        raise ValueError(f"RSA of {key.key_size} bits; {_RSA_BITS_MIN} at least")
    return [SSlibKey.from_crypto(key, scheme=one) for one in _RSA_SCHEMES]


def _is_signed_by(signed: Signed, key: SSlibKey) -> bool:
    """Whatever the evidence calls its keys: names of keys prove nothing."""
    data = signed.signed_bytes()
    for one in signed.signatures:
        try:
            key.verify_signature(Signature(key.keyid, one.hex()), data)
        except UnverifiedSignatureError:
            continue
        return True
    return False


def _verifier(authorities: Iterable[x509.Certificate], at: datetime) -> verification.ClientVerifier:
    every = verification.Criticality.AGNOSTIC
    return (
        verification.PolicyBuilder()
        .store(verification.Store(list(authorities)))
        .time(at)
        .max_chain_depth(_CHAIN_DEPTH_MAX)
        .extension_policies(
            # Authorities for signing of code say so; what they may sign is judged by its name.
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
                x509.ExtendedKeyUsage, every, None
            ),
            ee_policy=verification.ExtensionPolicy.permit_all(),
        )
        .build_client_verifier()
    )


def _may_sign(certificate: x509.Certificate) -> bool:
    """As model_signing has it: a key for signatures, or for the signing of code."""
    try:
        if certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return True
    except x509.ExtensionNotFound:
        pass
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CODE_SIGNING in uses


def _names(certificate: x509.Certificate) -> list[str]:
    """URIs, addresses and hosts that it is for, and its subject."""
    found = [certificate.subject.rfc4514_string()]
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    kinds = (x509.UniformResourceIdentifier, x509.RFC822Name, x509.DNSName)
    return [str(one.value) for one in named if isinstance(one, kinds)] + found
