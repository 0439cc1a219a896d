"""A policy says which evidence and whom to believe, or it is refused before anybody relies on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from edge_sdk.base import EdgeError, FormatError, NotFoundError, UsageError
from edge_sdk.evidence import EvidencePolicy, Required, load_policy
from tests.support.evidence import BUILDER, authority, certificate_pem, key, pem, write_policy

AUTHORITY = certificate_pem(authority())
SIGNED: dict[str, Any] = {"kind": "model-signing", "keys": [pem(key())]}
BUILT: dict[str, Any] = {**SIGNED, "kind": "slsa-provenance", "builders": [BUILDER]}


def test_what_a_namespace_has_to_bring(tmp_path: Path) -> None:
    """What its rules say, and those for every namespace, with the keys themselves."""
    by_authority = {
        "kind": "model-signing",
        "namespaces": ["partner", "team"],
        "authorities": [AUTHORITY],
        "identities": ["CN=ada"],
    }
    file = write_policy(tmp_path, {**SIGNED, "namespaces": ["team"]}, by_authority, BUILT)
    policy = load_policy(file)
    built = Required(kind="slsa-provenance", keys=(pem(key()),), builders=(BUILDER,))
    partner = Required(kind="model-signing", authorities=(AUTHORITY,), identities=("CN=ada",))
    signed = Required(kind="model-signing", keys=(pem(key()),))
    assert policy.of("team") == (signed, partner, built)
    assert policy.of("partner") == (partner, built)
    assert policy.of("else") == (built,)
    assert EvidencePolicy().of("team") == ()


@pytest.mark.parametrize(
    ("rule", "error", "why"),
    [
        ({"kind": "model-signing"}, UsageError, "name keys or authorities"),
        ({**SIGNED, "kind": "sbom"}, FormatError, "no policy of evidence"),
        ({**SIGNED, "namespaces": []}, UsageError, "namespaces are missing"),
        ({**SIGNED, "key": "misspelt"}, FormatError, "key"),
        ({**SIGNED, "builders": ["x"]}, UsageError, "names builders"),
        ({**BUILT, "builders": []}, UsageError, "names builders"),
        ({**SIGNED, "identities": ["*"]}, UsageError, "belong together"),
        (
            {"kind": "model-signing", "authorities": [AUTHORITY]},
            UsageError,
            "belong together",
        ),
        ({**SIGNED, "keys": ["no key"]}, FormatError, "no public key in PEM"),
        ({**SIGNED, "keys": [AUTHORITY]}, FormatError, "no public key"),
        (
            {"kind": "model-signing", "authorities": [pem(key())], "identities": ["*"]},
            FormatError,
            "no certificates",
        ),
        ({**SIGNED, "keys": [pem(key())] * 65}, UsageError, "more than 64"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(
    tmp_path: Path, rule: dict[str, Any], error: type[EdgeError], why: str
) -> None:
    """Something nothing could satisfy, anything would, or that says what is not known here."""
    with pytest.raises(error, match=why):
        load_policy(write_policy(tmp_path, rule))


def test_short_keys_are_refused(tmp_path: Path) -> None:
    """An RSA key that can be broken makes evidence of anything."""
    short = pem(rsa.generate_private_key(65537, 1024))
    with pytest.raises(FormatError, match="2048 at least"):
        load_policy(write_policy(tmp_path, {**SIGNED, "keys": [short]}))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing ones, the policy's own and a key's, and what is no TOML or too large."""
    with pytest.raises(NotFoundError):
        load_policy(tmp_path / "missing.toml")
    file = write_policy(tmp_path, SIGNED)
    (tmp_path / "keys-0-0.pem").unlink()
    with pytest.raises(NotFoundError, match=r"keys-0-0\.pem"):
        load_policy(file)
    for content in (b"evidence = 1", b"[[evidence", b"\xff", b"#" * (1 << 21)):
        file.write_bytes(content)
        with pytest.raises(FormatError):
            load_policy(file)
