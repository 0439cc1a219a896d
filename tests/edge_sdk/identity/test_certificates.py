"""What is read from certificates and requests, and what is refused."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import EdgeError, FormatError, TrustError
from edge_sdk.identity import (
    make_key,
    make_request,
    parse_spiffe_id,
    read_certificate,
    read_request,
    spiffe_id,
    to_der,
)

KEY = make_key()


def _request(names: list[x509.GeneralName], curve: ec.EllipticCurve | None = None) -> bytes:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_request_names_its_maker() -> None:
    """Kind, name and key are read; the same key gives the same key again."""
    first = read_request(make_request(KEY, "device", "gate-7"))
    second = read_request(make_request(KEY, "operator", "ann"))
    assert (first.kind, first.name) == ("device", "gate-7")
    assert (second.kind, second.name) == ("operator", "ann")
    assert first.key == second.key
    assert KEY.decode() not in repr(first)


@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.DNSName("gate-7")],
        [x509.UniformResourceIdentifier("spiffe://other/device/gate-7")],
        [x509.UniformResourceIdentifier("spiffe://edge/admin/gate-7")],
        [x509.UniformResourceIdentifier("spiffe://edge/device/Gate 7")],
        [x509.UniformResourceIdentifier("spiffe://edge/device/a/b")],
        [x509.UniformResourceIdentifier(f"spiffe://edge/device/{one}") for one in "ab"],
        [x509.UniformResourceIdentifier("spiffe://edge/device/a"), x509.DNSName("a")],
    ],
)
def test_other_names_are_refused(names: list[x509.GeneralName]) -> None:
    """Exactly one name, a spiffe URI of a device or operator; anything beside it is refused."""
    with pytest.raises(FormatError):
        read_request(_request(names))


def test_other_curves_are_refused() -> None:
    """gRPC would not take a certificate for it."""
    uri = x509.UniformResourceIdentifier("spiffe://edge/device/a")
    with pytest.raises(FormatError, match="P-256"):
        read_request(_request([uri], ec.SECP521R1()))


def test_a_request_signed_by_another_key() -> None:
    """Who asks for somebody else's key is refused."""
    request = bytearray(make_request(KEY, "device", "gate-7"))
    request[-1] ^= 1
    with pytest.raises((TrustError, FormatError)):
        read_request(bytes(request))


@given(at=st.integers(0, 300), bit=st.integers(0, 7))
def test_a_flipped_bit(at: int, bit: int) -> None:
    """A request with a flipped bit is refused with an error of ours."""
    request = bytearray(make_request(KEY, "device", "gate-7"))
    request[at % len(request)] ^= 1 << bit
    with pytest.raises(EdgeError):
        read_request(bytes(request))


@given(junk=st.binary(max_size=200))
def test_junk(junk: bytes) -> None:
    """What is no certificate, request or PEM is refused with an error of ours."""
    for read in (read_request, read_certificate, to_der):
        with pytest.raises(EdgeError):
            read(junk)


def test_names_and_uris() -> None:
    """A name becomes a URI and comes back."""
    assert parse_spiffe_id(spiffe_id("device", "gate-7")) == ("device", "gate-7")
    for wrong in ("", "spiffe://edge/", "spiffe://edge/device/", "device/gate-7"):
        with pytest.raises(FormatError):
            parse_spiffe_id(wrong)
