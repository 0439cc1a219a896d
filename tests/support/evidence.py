"""Evidence made by hand: bundles as model_signing writes them, provenance as builders do."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from securesystemslib.dsse import Envelope

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
MODEL_SIGNING = "https://model_signing/signature/v1.0"
PROVENANCE = "https://slsa.dev/provenance/v1"
URI = "https://example.com/models"
BUILDER = "https://builds.example.com/trusted@v1"
AT = datetime(2026, 6, 1, tzinfo=timezone.utc)

Key = Any  # a private key of cryptography


def key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """The same for the same number, and nobody's secret."""
    return ec.derive_private_key(number + 1, ec.SECP256R1())


def pem(private: Key) -> str:
    public = private.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def model_statement(
    files: Mapping[str, bytes], *, name: str = "model", **changed: Any
) -> dict[str, Any]:
    """What model_signing states. ``changed``: fields of the statement, or of its predicate."""
    digests = {path: hashlib.sha256(data) for path, data in sorted(files.items())}
    together = hashlib.sha256(b"".join(one.digest() for one in digests.values()))
    predicate = {
        "resources": [
            {"name": path, "algorithm": "sha256", "digest": one.hexdigest()}
            for path, one in digests.items()
        ],
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": [".git", "model.sig"],
        },
    }
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": together.hexdigest()}}],
        "predicateType": MODEL_SIGNING,
        "predicate": predicate,
    }
    for field, value in changed.items():
        (statement if field in statement else predicate)[field] = value
    return statement


def provenance(files: Mapping[str, bytes], *, builder: str = BUILDER, **changed: Any) -> Any:
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": path, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
            for path, data in sorted(files.items())
        ],
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {"buildType": "https://example.com/build", "externalParameters": {}},
            "runDetails": {"builder": {"id": builder}},
        },
        **changed,
    }


def envelope(statement: Any, *keys: Key, payload_type: str = IN_TOTO) -> dict[str, Any]:
    payload = json.dumps(statement).encode()
    signed = Envelope(payload, payload_type, {}).pae()
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [
            {"sig": base64.b64encode(_sign(one, signed)).decode(), "keyid": ""} for one in keys
        ],
    }


def bundle(
    statement: Any, *keys: Key, chain: Sequence[x509.Certificate] = (), **material: Any
) -> bytes:
    """A Sigstore bundle; with ``chain`` signed by the first certificate's key."""
    if chain:
        raw = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in chain]
        material["x509CertificateChain"] = {"certificates": [{"rawBytes": one} for one in raw]}
    else:
        material.setdefault("publicKey", {"hint": "whatever"})
    return json.dumps(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"tlogEntries": [], **material},
            "dsseEnvelope": envelope(statement, *keys),
        }
    ).encode()


def _sign(private: Key, data: bytes) -> bytes:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(data)
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(data, padding.PKCS1v15(), hashes.SHA256())
    by_bits = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    return private.sign(data, ec.ECDSA(by_bits[private.curve.key_size]))


def certificate(
    name: str,
    private: Key,
    issuer: str,
    issuer_key: Key,
    *,
    is_authority: bool = False,
    names: Sequence[x509.GeneralName] = (),
    signs: bool = True,
    signs_code: bool = False,
    uses: Sequence[x509.ObjectIdentifier] = (),
) -> x509.Certificate:
    """Valid around ``AT``."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(AT - timedelta(days=1))
        .not_valid_after(AT + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_usage(is_authority=is_authority, signs=signs), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    every = [*uses, *([ExtendedKeyUsageOID.CODE_SIGNING] if signs_code else [])]
    if every:
        builder = builder.add_extension(x509.ExtendedKeyUsage(every), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def authority() -> x509.Certificate:
    """Of the name ``root``, by ``key(100)``."""
    return certificate("root", key(100), "root", key(100), is_authority=True)


def vouched(
    *, named: str = URI, root: int = 100, signs: bool = True, signs_code: bool = False
) -> list[x509.Certificate]:
    """The certificate of ``key(3)``, and the one between it and the authority."""
    names = [x509.UniformResourceIdentifier(named)]
    between = certificate("between", key(101), "root", key(root), is_authority=True)
    own = certificate(
        *("ada", key(3), "between", key(101)), names=names, signs=signs, signs_code=signs_code
    )
    return [own, between]


def certificate_pem(one: x509.Certificate) -> str:
    return one.public_bytes(Encoding.PEM).decode()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, is_authority: bool, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs and not is_authority,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def write_policy(folder: Path, *rules: Mapping[str, Any]) -> Path:
    """A policy's file, with its keys beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, rule in enumerate(rules):
        lines.append("[[evidence]]")
        for field, value in {"namespaces": ["*"], **rule}.items():
            said: Any = value
            if field in ("keys", "authorities"):
                said = [f"{field}-{number}-{at}.pem" for at in range(len(value))]
                for name, text in zip(said, value, strict=True):
                    (folder / name).write_text(text)
            lines.append(f"{field} = {json.dumps(said)}")
    file = folder / "evidence.toml"
    file.write_text("\n".join(lines) + "\n")
    return file
