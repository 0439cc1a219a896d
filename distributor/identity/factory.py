"""Factory certificates (IEEE 802.1AR IDevID): what a manufacturer put into a device.

They live as long as the device does and say nothing of a fleet; so they only let it ask.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from distributor.identity.authority import is_issued_by
from edge_sdk.base import FormatError, TrustError
from edge_sdk.identity import check_proof, fingerprint, to_der, to_pem

_CHAIN_MAX = 4
_SERIAL_MAX = 64


def check_factory(
    chain: Sequence[bytes], request: bytes, proof: bytes, *, authorities: bytes, now_s: float
) -> str:
    """The serial number of the device whose factory key signed ``request``.

    ``chain``: its certificate first (DER); ``authorities``: manufacturers' (PEM).
    Raises: TrustError, FormatError.
    """
    if not 1 <= len(chain) <= _CHAIN_MAX:
        raise FormatError(f"a factory certificate comes with at most {_CHAIN_MAX - 1} issuers")
    anchors = to_der(authorities)
    anchored = {fingerprint(one) for one in anchors}
    for number, one in enumerate(chain):
        _check_date(one, now_s)
        above = [*anchors, *chain[number + 1 : number + 2]]
        signer = next((by for by in above if _signed(one, by)), None)
        if signer is None:
            break
        if fingerprint(signer) in anchored:
            check_proof(chain[0], request, proof)
            return _serial(chain[0])
    raise TrustError("the factory certificate is of no manufacturer that this fleet knows")


def _signed(certificate: bytes, by: bytes) -> bool:
    return _is_authority(by) and is_issued_by(certificate, to_pem([by]))


def _is_authority(certificate: bytes) -> bool:
    try:
        found = x509.load_der_x509_certificate(certificate).extensions
        return found.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        return False


def _check_date(certificate: bytes, now_s: float) -> None:
    try:
        found = x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise FormatError(f"the factory certificate cannot be read: {error}") from None
    now = dt.datetime.fromtimestamp(now_s, dt.UTC)
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise TrustError("the factory certificate is not valid at this time")


def _serial(certificate: bytes) -> str:
    """What 802.1AR calls the device's serial number; else the certificate's own."""
    found = x509.load_der_x509_certificate(certificate)
    named = found.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    value = named[0].value if named else f"{found.serial_number:x}"
    text = value if isinstance(value, str) else value.decode(errors="replace")
    if not (text.isprintable() and 0 < len(text) <= _SERIAL_MAX):
        raise FormatError("the factory certificate's serial number is no printable text")
    return text
