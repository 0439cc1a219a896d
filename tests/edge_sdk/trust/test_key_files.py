"""Key files open with their passphrase alone, and one key never counts as two."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey

from edge_sdk import trust
from edge_sdk.base import (
    ConflictError,
    FormatError,
    NotFoundError,
    RefusedError,
    TrustError,
    UsageError,
)

WORK = 1 << 4  # quick; what the work is changes nothing else


def test_a_key_file_signs_through_its_uri(tmp_path: Path) -> None:
    """What securesystemslib opens by URI signs for the public key that creating gave."""
    path = tmp_path / "a key.json"
    public = trust.create_key_file(path, b"correct horse", work=WORK)
    signer = trust.open_signer(trust.uri_of(path), public, lambda _: b"correct horse")
    signature = signer.sign(b"payload")
    public.verify_signature(signature, b"payload")
    assert signature.keyid == public.keyid
    assert trust.public_of(path) == public


def test_a_signer_bears_the_id_that_others_know(tmp_path: Path) -> None:
    """A key id of somebody's choice in the metadata is the one on the signature."""
    path = tmp_path / "key"
    public = trust.create_key_file(path, b"x", work=WORK)
    known = SSlibKey("team-2026", public.keytype, public.scheme, public.keyval)
    signer = trust.open_signer(trust.uri_of(path), known, lambda _: b"x")
    assert signer.sign(b"").keyid == "team-2026"


def test_only_its_owner_reads_it_and_nothing_of_the_key_shows(tmp_path: Path) -> None:
    """Mode 0600; neither the private key nor the passphrase stands in the file."""
    path = tmp_path / "key"
    trust.create_key_file(path, b"pass", work=WORK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    private = trust.open_key_file(path, b"pass").private_bytes
    assert private not in path.read_bytes()
    assert b"pass" not in path.read_bytes()


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """As ssh: who copies the file can guess at its passphrase for years. Its public half is
    no secret."""
    path = tmp_path / "key"
    trust.create_key_file(path, b"pass", work=WORK)
    path.chmod(0o644)
    with pytest.raises(RefusedError, match=r"key \(mode 0644\).*chmod 600"):
        trust.open_key_file(path, b"pass")
    trust.public_of(path)


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    """A second key of the same name would make the first one's signatures unrepeatable."""
    path = tmp_path / "key"
    trust.create_key_file(path, b"x", work=WORK)
    before = path.read_bytes()
    with pytest.raises(ConflictError):
        trust.create_key_file(path, b"x", work=WORK)
    assert path.read_bytes() == before


def test_the_wrong_passphrase_and_the_wrong_key_are_told_apart_from_damage(tmp_path: Path) -> None:
    """Each has an error of its own, since each wants another remedy."""
    path = tmp_path / "key"
    public = trust.create_key_file(path, b"right", work=WORK)
    with pytest.raises(TrustError, match="passphrase"):
        trust.open_signer(trust.uri_of(path), public, lambda _: b"wrong")
    other = CryptoSigner.generate_ed25519().public_key
    with pytest.raises(TrustError, match="private half"):
        trust.open_signer(trust.uri_of(path), other, lambda _: b"right")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FormatError):
        trust.open_key_file(path, b"right")


@pytest.mark.parametrize("field", ["public", "work", "salt", "sealed"])
def test_every_field_is_bound_to_the_sealed_key(tmp_path: Path, field: str) -> None:
    """A field taken from another key file makes the file unusable."""
    path = tmp_path / "key"
    trust.create_key_file(path, b"x", work=WORK)
    said = msgspec.json.decode(path.read_bytes())
    other = tmp_path / "other"
    trust.create_key_file(other, b"x", work=WORK * 2)
    said[field] = msgspec.json.decode(other.read_bytes())[field]
    path.write_bytes(msgspec.json.encode(said))
    with pytest.raises(TrustError):
        trust.open_key_file(path, b"x")


def test_a_file_cannot_ask_for_endless_work(tmp_path: Path) -> None:
    """The work is looked at before any of it is done."""
    path = tmp_path / "key"
    trust.create_key_file(path, b"x", work=WORK)
    said = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**said, "work": 1 << 40}))
    with pytest.raises(FormatError):
        trust.open_key_file(path, b"x")


def test_unknown_schemes_and_missing_files_are_usage_errors(tmp_path: Path) -> None:
    """Neither ends as a library's own exception."""
    public = CryptoSigner.generate_ed25519().public_key
    for uri in ("nosuch:key", trust.uri_of(tmp_path / "none")):
        with pytest.raises((UsageError, NotFoundError)):
            trust.open_signer(uri, public, lambda _: b"x")


def test_one_public_key_under_two_ids_is_refused() -> None:
    """Not under another id, and not in another spelling."""
    key = CryptoSigner.generate_ed25519().public_key
    twin = SSlibKey("f" * 64, key.keytype, key.scheme, key.keyval)
    shouting = SSlibKey(
        "e" * 64, key.keytype, key.scheme, {"public": str(key.keyval["public"]).upper()}
    )
    trust.check_distinct([key, CryptoSigner.generate_ed25519().public_key])
    for other in (twin, shouting):
        with pytest.raises(RefusedError, match="one and the same"):
            trust.check_distinct([key, other])
