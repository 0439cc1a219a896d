"""Envelopes and bundles are read as their formats say, and anything else is an error of ours."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import EdgeError, FormatError
from edge_sdk.evidence.bundle import EVIDENCE_BYTES_MAX, read_signed
from edge_sdk.evidence.statement import read_statement
from tests.support.evidence import (
    IN_TOTO,
    bundle,
    envelope,
    key,
    model_statement,
    provenance,
    vouched,
)

FILES = {"a": b"a", "b": b"b"}
BUNDLE = bundle(model_statement(FILES), key(), chain=vouched())
# Once: signatures of one key over the same bytes differ, in length as well.
SIGNED = [
    (json.dumps(one).encode(), json.dumps(envelope(one, key())).encode())
    for one in (model_statement(FILES), provenance(FILES))
]


def changed(path: str, value: Any, document: bytes = BUNDLE) -> bytes:
    """With one field set; ``dsseEnvelope.signatures`` is a path."""
    said = json.loads(document)
    *above, last = path.split(".")
    place = said
    for one in above:
        place = place[one]
    place[last] = value
    return json.dumps(said).encode()


def test_a_bundle_and_its_envelope_say_the_same() -> None:
    """The certificates of the bundle apart."""
    whole = read_signed(BUNDLE)
    bare = read_signed(json.dumps(json.loads(BUNDLE)["dsseEnvelope"]).encode())
    assert (whole.payload, whole.signatures) == (bare.payload, bare.signatures)
    assert whole.signed_bytes() == bare.signed_bytes()
    assert whole.signed_bytes().startswith(b"DSSEv1 28 application/vnd.in-toto+json ")
    assert (len(whole.certificates), bare.certificates) == (2, ())


def test_both_alphabets_of_base64() -> None:
    """Signers may use either, verifiers take both."""
    plain = read_signed(BUNDLE)
    payload = base64.urlsafe_b64encode(plain.payload).decode()
    signature = base64.urlsafe_b64encode(plain.signatures[0]).decode()
    document = changed("dsseEnvelope.payload", payload)
    document = changed("dsseEnvelope.signatures", [{"sig": signature}], document)
    assert read_signed(document).signed_bytes() == plain.signed_bytes()
    assert read_signed(document).signatures == plain.signatures


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1", "version 0.3"),
        ("dsseEnvelope.payloadType", "application/json", IN_TOTO.replace("+", r"\+")),
        ("dsseEnvelope.payload", "not base64!", "base64"),
        ("dsseEnvelope.payload", 7, "no evidence known here"),
        ("dsseEnvelope.signatures", [], "1 to 4 signatures"),
        ("dsseEnvelope.signatures", [{"sig": "AA=="}] * 5, "1 to 4 signatures"),
        ("dsseEnvelope.signatures", [{}], "no evidence known here"),
        ("dsseEnvelope", None, "no evidence known here"),
        (
            "verificationMaterial.x509CertificateChain",
            {"certificates": [{"rawBytes": "AA=="}] * 9},
            "at most 8 certificates",
        ),
    ],
)
def test_other_bundles_are_refused(path: str, value: Any, why: str) -> None:
    """Other versions, other payloads, none or too many signatures."""
    with pytest.raises(FormatError, match=why):
        read_signed(changed(path, value))


def test_no_evidence_at_all() -> None:
    """Text, other JSON, signatures over bytes in place of statements, nested without end."""
    message = {"mediaType": "x", "verificationMaterial": {}, "messageSignature": {}}
    for document in (b"", b"{}", b"[]", b"text", b"[" * 100_000, json.dumps(message).encode()):
        with pytest.raises(FormatError):
            read_signed(document)
    with pytest.raises(FormatError, match="are allowed"):
        read_signed(b" " * (EVIDENCE_BYTES_MAX + 1))


def statement_of(statement: dict[str, Any]) -> object:
    return read_statement(json.dumps(statement).encode())


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1", "which is not"),
        ("serialization", {"method": "shards", "hash_type": "sha256"}, "file by file"),
        ("serialization", {"method": "files", "hash_type": "blake3"}, "file by file"),
        ("resources", [{"name": "a", "algorithm": "blake2b", "digest": "0" * 64}], "file by file"),
        ("resources", [{"name": "a", "algorithm": "sha256", "digest": "00"}], "digest"),
        ("resources", [], "does not hang together"),
        ("subject", [], "does not hang together"),
        ("subject", [{"name": "x", "digest": {"sha256": "0" * 64}}], "does not hang together"),
    ],
)
def test_statements_of_models_that_do_not_hold(field: str, value: Any, why: str) -> None:
    """Of other versions, by other hashes, or whose subject is not the sum of its files."""
    with pytest.raises(FormatError, match=why):
        statement_of(model_statement(FILES, **{field: value}))


def test_a_file_that_is_named_twice_is_refused() -> None:
    """Whichever of the two digests one believed, somebody else would believe the other."""
    statement = model_statement(FILES)
    twice = statement["predicate"]["resources"]
    twice.append({**twice[0], "digest": twice[1]["digest"]})
    with pytest.raises(FormatError, match="twice"):
        statement_of(statement)


def test_provenance_without_a_builder_is_refused() -> None:
    """It is the one thing that a policy compares."""
    with pytest.raises(FormatError):
        statement_of(provenance(FILES, predicate={"runDetails": {}}))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damage_is_an_error_of_ours(data: st.DataObject) -> None:
    """Of envelope and statement, some bytes changed."""
    statement, signed = data.draw(st.sampled_from(SIGNED))
    payload, document = bytearray(statement), bytearray(signed)
    for whole, read in ((payload, read_statement), (document, read_signed)):
        for _ in range(data.draw(st.integers(1, 5))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        with suppress(EdgeError):
            read(bytes(whole))
