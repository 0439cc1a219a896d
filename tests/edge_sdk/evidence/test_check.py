"""Evidence holds where it is about exactly the artifact and by whom the policy names, or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_sdk.base import EdgeError, FormatError, ProofError, RefusedError, TrustError
from edge_sdk.evidence import EVIDENCE_MAX, Evidence, Required, check_evidence, find_evidence
from edge_sdk.manifest import Golden, Manifest
from tests.support.artifacts import make_artifact
from tests.support.evidence import (
    AT,
    BUILDER,
    URI,
    authority,
    bundle,
    certificate,
    certificate_pem,
    envelope,
    key,
    model_statement,
    pem,
    provenance,
    vouched,
)
from tests.support.evidence_record import BUNDLES

FILES = {"a.onnx": b"graph", "sub/w.bin": b"weights"}
SIGNED = Required(kind="model-signing", keys=(pem(key()),))
BUILT = Required(kind="slsa-provenance", keys=(pem(key()),), builders=(BUILDER,))


def manifest(files: Mapping[str, bytes] = FILES, *, sample: str | None = None) -> Manifest:
    made = make_artifact(files).manifest
    if sample is None:
        return made
    return replace(made, golden=Golden(path=sample, origin="seeded", tolerances={}))


def check(
    *documents: bytes, about: Manifest | None = None, by: tuple[Required, ...] = (SIGNED,)
) -> tuple[Evidence, ...]:
    return check_evidence(documents, by, about or manifest(), at=AT)


def test_a_signature_of_exactly_these_files_holds() -> None:
    """The key that signed is named as signed metadata name keys, and the document is kept."""
    document = bundle(model_statement(FILES), key())
    (one,) = check(document)
    assert (one.kind, one.document, one.builder) == ("model-signing", document, "")
    assert one.signer.startswith("key ")
    assert len(one.signer) == 4 + 64


def test_a_model_that_is_one_file() -> None:
    """model_signing calls it by a dot, whatever its name is."""
    one = {"digits.onnx": b"graph"}
    check(bundle(model_statement({".": b"graph"}), key()), about=manifest(one))
    with pytest.raises(ProofError, match=r"other bytes of digits\.onnx"):
        check(bundle(model_statement({".": b"another"}), key()), about=manifest(one))
    with pytest.raises(ProofError, match=r"does not cover a\.onnx, sub/w\.bin"):
        check(bundle(model_statement({".": b"graph"}), key()))


def test_provenance_by_a_builder_of_the_policy_holds() -> None:
    """As a bundle or as a bare envelope, whatever its files are called where it was built, and
    whatever else the same build made."""
    made = {"out/a": FILES["a.onnx"], "out/w": FILES["sub/w.bin"], "log": b"log"}
    for document in (
        bundle(provenance(made), key()),
        json.dumps(envelope(provenance(made), key())).encode() + b"\n",
    ):
        (one,) = check(document, by=(BUILT,))
        assert (one.kind, one.builder) == ("slsa-provenance", BUILDER)


def test_both_can_be_required() -> None:
    """One document for each; each that is missing is named."""
    signature, built = bundle(model_statement(FILES), key()), bundle(provenance(FILES), key())
    assert len(check(signature, built, by=(SIGNED, BUILT))) == 2
    with pytest.raises(RefusedError, match=r"slsa-provenance, and team/digits 1\.0\.0 fp32 comes"):
        check(signature, by=(SIGNED, BUILT))
    with pytest.raises(RefusedError, match=r"model-signing.*--evidence FILE"):
        check(built, by=(SIGNED, BUILT))


def test_nothing_required_takes_nothing() -> None:
    """Evidence that nobody checks is not kept as if somebody had."""
    assert check(by=()) == ()
    with pytest.raises(RefusedError, match="no policy here asks for evidence of kind model-sign"):
        check(bundle(model_statement(FILES), key()), by=())
    with pytest.raises(RefusedError, match="no policy here asks for evidence of kind slsa"):
        check(bundle(provenance(FILES), key()), bundle(model_statement(FILES), key()))


def test_what_is_absent_is_refused() -> None:
    """The policy says no, and which file would help."""
    with pytest.raises(RefusedError, match="namespace team has to bring evidence of kind model"):
        check()


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ({**FILES, "a.onnx": b"other"}, r"covers other bytes of a\.onnx"),
        ({"a.onnx": b"graph"}, r"does not cover sub/w\.bin"),
        ({**FILES, "more": b""}, r"no file of the artifact: more"),
        ({"a.onnx": b"graph", "w.bin": b"weights"}, r"does not cover sub/w\.bin"),
        ({"a.onnx": b"weights", "sub/w.bin": b"graph"}, r"other bytes of a\.onnx, sub/w\.bin"),
    ],
)
def test_a_signature_of_other_files_is_refused(stated: dict[str, bytes], why: str) -> None:
    """Files with other bytes, other names, more of them or fewer."""
    with pytest.raises(ProofError, match=why):
        check(bundle(model_statement(stated), key()))


def test_files_that_the_signer_ignored_are_refused() -> None:
    """What a signature leaves out on purpose, such as model.sig, is no file of the artifact."""
    with pytest.raises(ProofError, match=r"does not cover model\.sig"):
        check(bundle(model_statement(FILES), key()), about=manifest({**FILES, "model.sig": b"sig"}))


def test_provenance_of_other_files_is_refused() -> None:
    """Every file has to come out of the build."""
    made = provenance({"a.onnx": FILES["a.onnx"]})
    with pytest.raises(ProofError, match=r"does not speak of the bytes of sub/w\.bin"):
        check(bundle(made, key()), by=(BUILT,))
    made = provenance(FILES, subject=[{"name": "a.onnx", "digest": {"sha512": "00"}}])
    with pytest.raises(ProofError, match="does not speak"):
        check(bundle(made, key()), by=(BUILT,))


def test_only_the_golden_sample_needs_no_evidence() -> None:
    """It is made after the model was signed. One that the signer saw is a file like others, and
    no file becomes a sample that the engine is given, or that publishing did not make."""
    sampled = {**FILES, "golden.safetensors": b"sample"}
    about = manifest(sampled, sample="golden.safetensors")
    for statement, by in ((model_statement, SIGNED), (provenance, BUILT)):
        check(bundle(statement(FILES), key()), about=about, by=(by,))
        check(bundle(statement(sampled), key()), about=about, by=(by,))
        entry = replace(about, entry="golden.safetensors")
        with pytest.raises(ProofError):
            check(bundle(statement(FILES), key()), about=entry, by=(by,))
    changed = {**FILES, "golden.safetensors": b"another"}
    with pytest.raises(ProofError, match="other bytes"):
        check(bundle(model_statement(changed), key()), about=about)
    named = {**FILES, "sample.safetensors": b"sample"}
    with pytest.raises(ProofError, match="bytes of sample"):
        about = manifest(named, sample="sample.safetensors")
        check(bundle(provenance(FILES), key()), about=about, by=(BUILT,))


def test_another_key_is_refused() -> None:
    """Also where the evidence says that it is by the right one."""
    with pytest.raises(TrustError, match="model-signing is not signed by a key that the policy"):
        check(bundle(model_statement(FILES), key(1)))
    with pytest.raises(TrustError, match="slsa-provenance is not signed by a key"):
        check(bundle(provenance(FILES), key(1)), by=(BUILT,))
    said = json.loads(bundle(model_statement(FILES), key(1)))
    (right,) = check(bundle(model_statement(FILES), key()))
    said["dsseEnvelope"]["signatures"][0]["keyid"] = right.signer.removeprefix("key ")
    with pytest.raises(TrustError):
        check(json.dumps(said).encode())


def test_a_changed_statement_is_refused() -> None:
    """The signature is over every byte of it."""
    said = json.loads(bundle(model_statement({**FILES, "a.onnx": b"other"}), key()))
    other = json.dumps(model_statement(FILES)).encode()
    said["dsseEnvelope"]["payload"] = base64.b64encode(other).decode()
    with pytest.raises(TrustError):
        check(json.dumps(said).encode())


def test_one_signature_of_several_is_enough() -> None:
    """And one key of several."""
    several = replace(SIGNED, keys=(pem(key(2)), pem(key())))
    check(bundle(model_statement(FILES), key(1), key()), by=(several,))


@pytest.mark.parametrize("builder", ["https://builds.example.com/other", "", BUILDER + "/"])
def test_another_builder_is_refused(builder: str) -> None:
    """Also one without a name: the key alone is not enough."""
    with pytest.raises(TrustError, match="does not name the builder"):
        check(bundle(provenance(FILES, builder=builder), key()), by=(BUILT,))


@pytest.mark.parametrize(
    "kind", ["https://model_signing/Digests/v0.1", "https://slsa.dev/provenance/v0.2", "x"]
)
def test_other_predicates_are_refused(kind: str) -> None:
    """Whoever signed them, and the message says which are known."""
    with pytest.raises(FormatError, match=r"predicate .* is not known here; known are"):
        check(bundle(model_statement(FILES, predicateType=kind), key()))


def test_a_requirement_is_not_satisfied_by_another_of_its_kind() -> None:
    """Where two rules ask for a model's signature, by the maker and by who tests, one of them
    does not do; and one document that both signed does for both."""
    by = (SIGNED, Required(kind="model-signing", keys=(pem(key(1)),)))
    mine, theirs = (bundle(model_statement(FILES), key(one)) for one in (0, 1))
    for document in (mine, theirs):
        with pytest.raises(TrustError):
            check(document, by=by)
    assert len(check(mine, theirs, by=by)) == 2
    assert len(check(bundle(model_statement(FILES), key(), key(1)), by=by)) == 1


def test_the_same_twice_counts_once_and_too_many_not_at_all() -> None:
    """A mistake in a script is no second piece of evidence; a flood is refused unread."""
    document = bundle(model_statement(FILES), key())
    assert len(check(document, document)) == 1
    many = [b"%d" % one for one in range(EVIDENCE_MAX + 1)]
    with pytest.raises(RefusedError, match="9 pieces of evidence"):
        check(*many)


@pytest.mark.parametrize(
    "private",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=lambda one: type(one).__name__,
)
def test_kinds_of_keys(private: Any) -> None:
    """Those that model_signing and builders use."""
    required = Required(kind="model-signing", keys=(pem(private),))
    check(bundle(model_statement(FILES), private), by=(required,))
    with pytest.raises(TrustError):
        check(bundle(model_statement(FILES), key()), by=(required,))


# Certificates

BY_AUTHORITY = Required(
    kind="model-signing", authorities=(certificate_pem(authority()),), identities=(URI,)
)


def by_certificate(
    *, required: Required = BY_AUTHORITY, at: datetime = AT, signs: int = 3, **facts: Any
) -> str:
    document = bundle(model_statement(FILES), key(signs), chain=vouched(**facts))
    (one,) = check_evidence([document], (required,), manifest(), at=at)
    return one.signer


def test_a_certificate_of_the_authority_holds() -> None:
    """The evidence brings what stands between; the signer is called by the name believed."""
    assert by_certificate() == f"certificate {URI}"
    assert by_certificate(required=replace(BY_AUTHORITY, identities=("CN=ada",))).endswith("CN=ada")
    assert by_certificate(required=replace(BY_AUTHORITY, identities=("*",))).endswith(URI)
    assert by_certificate(signs=3, signs_code=True).endswith(URI)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"named": "https://example.com/else"}, "whom the policy does not name"),
        ({"root": 55}, "no authority of the policy vouches"),
        ({"at": AT + timedelta(days=2)}, "not valid at validation time"),
        ({"at": AT - timedelta(days=2)}, "not valid at validation time"),
        ({"signs": 4}, "not signed by the key of its certificate"),
    ],
)
def test_other_certificates_are_refused(facts: dict[str, Any], why: str) -> None:
    """Of another name, another authority, another time, or of another key than signed."""
    with pytest.raises(TrustError, match=why):
        by_certificate(**facts)


def test_a_certificate_that_is_not_for_signing_is_refused() -> None:
    """One for encryption, though its authority vouches for it; the signing of code is signing."""
    only = {"signs": False}
    made = vouched(**only)
    document = bundle(model_statement(FILES), key(3), chain=made)
    with pytest.raises(TrustError, match="not for signing"):
        check(document, by=(BY_AUTHORITY,))
    document = bundle(model_statement(FILES), key(3), chain=vouched(**only, signs_code=True))
    check(document, by=(BY_AUTHORITY,))


SERVERS, CODE = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING
ANY_USE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


@pytest.mark.parametrize(
    ("between", "own", "why"),
    [
        ((SERVERS,), (CODE,), "no authority of the policy vouches"),
        ((SERVERS,), (), "no authority of the policy vouches"),
        ((), (SERVERS,), "not for signing"),
        ((CODE,), (CODE,), ""),
        ((SERVERS, ANY_USE), (SERVERS, CODE), ""),
    ],
)
def test_certificates_of_servers_sign_nothing(
    between: Sequence[x509.ObjectIdentifier], own: Sequence[x509.ObjectIdentifier], why: str
) -> None:
    """Neither they nor what an authority for servers vouches for."""
    names = [x509.UniformResourceIdentifier(URI)]
    middle = certificate("middle", key(5), "root", key(100), is_authority=True, uses=between)
    mine = certificate("ada", key(3), "middle", key(5), names=names, uses=own)
    document = bundle(model_statement(FILES), key(3), chain=[mine, middle])
    if not why:
        check(document, by=(BY_AUTHORITY,))
        return
    with pytest.raises(TrustError, match=why):
        check(document, by=(BY_AUTHORITY,))


@pytest.mark.parametrize(
    ("name", "believed"),
    [
        (x509.DNSName("CN=boss"), "CN=boss"),
        (x509.UniformResourceIdentifier("CN=boss"), "CN=boss"),
        (x509.DNSName("https://example.com/boss"), "https://example.com/boss"),
        (x509.UniformResourceIdentifier("boss@example.com"), "boss@example.com"),
    ],
    ids=str,
)
def test_a_name_is_compared_with_its_own_kind(name: x509.GeneralName, believed: str) -> None:
    """A host, address or URI does not pass for another one's subject."""
    own = certificate("ada", key(3), "root", key(100), names=[name])
    document = bundle(model_statement(FILES), key(3), chain=[own])
    with pytest.raises(TrustError, match="signed by CN=ada, whom the policy does not name"):
        check(document, by=(replace(BY_AUTHORITY, identities=(believed,)),))
    (one,) = check(document, by=(replace(BY_AUTHORITY, identities=("*",)),))
    assert one.signer == "certificate CN=ada"


def test_names_of_each_kind_are_believed() -> None:
    """As the policy spells them."""
    for name in (x509.DNSName("models.example"), x509.RFC822Name("ada@models.example")):
        own = certificate("ada", key(3), "root", key(100), names=[name])
        document = bundle(model_statement(FILES), key(3), chain=[own])
        check(document, by=(replace(BY_AUTHORITY, identities=(name.value,)),))


def test_many_keys_cost_little() -> None:
    """Large evidence is hashed once, not for each key; that is counted, not timed."""
    keys = tuple(pem(key(one)) for one in range(1, 60))
    document = bundle(model_statement(FILES), key(70), key(0))
    by = Required(kind="model-signing", keys=(*keys, pem(key(0))))
    with mock.patch("edge_sdk.evidence.signers.hashlib.new", wraps=hashlib.new) as hashing:
        check(document, by=(by,))
    assert hashing.call_count == 1


def test_a_certificate_that_is_no_authority_vouches_for_nobody() -> None:
    """Else whoever has one could make more."""
    names = [x509.UniformResourceIdentifier(URI)]
    holder = certificate("holder", key(5), "root", key(100))
    own = certificate("ada", key(3), "holder", key(5), names=names)
    document = bundle(model_statement(FILES), key(3), chain=[own, holder])
    with pytest.raises(TrustError, match="no authority"):
        check(document, by=(BY_AUTHORITY,))


def test_keyless_signatures_are_told_what_to_do() -> None:
    """Sigstore's short-lived certificates are not believed by their word."""
    raw = base64.b64encode(
        certificate("x", key(3), "fulcio", key(9)).public_bytes(Encoding.DER)
    ).decode()
    document = bundle(
        model_statement(FILES), key(3), certificate={"rawBytes": raw}, tlogEntries=[{"logIndex": 1}]
    )
    with pytest.raises(TrustError, match=r"without a lasting key \(Sigstore keyless\)"):
        check(document)
    with pytest.raises(TrustError, match="no authority"):
        check(document, by=(BY_AUTHORITY,))


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    """With our own error, whatever the library says."""
    said = json.loads(bundle(model_statement(FILES), key(3), chain=vouched()))
    material = said["verificationMaterial"]
    material["x509CertificateChain"]["certificates"][0]["rawBytes"] = "AAAA"
    with pytest.raises(FormatError, match="certificate of the evidence cannot be read"):
        check(json.dumps(said).encode(), by=(BY_AUTHORITY,))


@pytest.mark.parametrize("name", ["by-key", "one-file", "by-certificate"])
def test_what_model_signing_itself_wrote_holds(name: str) -> None:
    """Bundles of its release 1.1.1, as ``tests.support.evidence_record`` made them."""
    document = (BUNDLES / f"{name}.json").read_bytes()
    about = manifest({"a.onnx": FILES["a.onnx"]} if name == "one-file" else FILES)
    by = BY_AUTHORITY if name == "by-certificate" else SIGNED
    (one,) = check(document, about=about, by=(by,))
    assert one.signer
    with pytest.raises(ProofError):
        check(document, about=manifest({"a.onnx": b"other"}), by=(by,))


# What was published before


def test_what_was_kept_is_found_again() -> None:
    """Whom the policy of today does not name is shown without a signer; whoever is required has
    to be there; a certificate counts by the day on which it came."""
    mine, theirs = (bundle(model_statement(FILES), key(one)) for one in (0, 1))
    kept = [(theirs, AT), (mine, AT)]
    found = find_evidence(kept, (SIGNED,), manifest())
    assert [bool(one.signer) for one in found] == [False, True]
    assert [one.signer for one in find_evidence(kept, (), manifest())] == ["", ""]
    with pytest.raises(TrustError):
        find_evidence(kept[:1], (SIGNED,), manifest())
    with pytest.raises(RefusedError):
        find_evidence([], (SIGNED,), manifest())
    with pytest.raises(ProofError):
        find_evidence(kept, (), manifest({"a.onnx": b"exchanged"}))
    document = bundle(model_statement(FILES), key(3), chain=vouched())
    late = AT + timedelta(days=9)
    assert find_evidence([(document, AT)], (BY_AUTHORITY,), manifest())
    with pytest.raises(TrustError):
        find_evidence([(document, late)], (BY_AUTHORITY,), manifest())


def test_errors_are_our_own() -> None:
    """Each is one of the families that commands and calls know."""
    with pytest.raises(EdgeError):
        check(b"{}")
