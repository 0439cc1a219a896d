"""Heads are signed when asked and at intervals, and never over a log that was tampered with."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner
from sqlalchemy import text

from distributor.audit import (
    Act,
    HeadSigner,
    append,
    audit_signer,
    entries,
    log_state,
    signed_notes,
)
from edge_sdk.audit import VerifierKey, open_note, verify_log
from edge_sdk.base import FormatError, NotFoundError, TrustError, UsageError
from edge_sdk.trust import create_key_file, uri_of
from tests.support import postgres
from tests.support.catalog import AT_MS, Catalog, open_catalog


def signer_of(catalog: Catalog, folder: Path, *, every_s: float = 3600) -> HeadSigner:
    key = audit_signer(folder / "audit" / "key.pem")
    return HeadSigner(catalog.database, key, clock_ms=lambda: AT_MS, every_s=every_s)


def grow(catalog: Catalog, count: int = 1) -> None:
    for number in range(count):
        act = Act(at_ms=AT_MS, kind="operator", actor="a", action="test", object=str(number))
        catalog.write(append, act)


def tamper(catalog: Catalog, *statements: str) -> None:
    """Changes rows as one would who owns the file: without the triggers."""
    triggers = [
        "DROP TRIGGER audit_entries_no_update",
        "DROP TRIGGER audit_entries_no_delete",
        "DROP TRIGGER audit_log_grows",
    ]
    if postgres.chosen() is not None:
        triggers = ["ALTER TABLE audit_entries DISABLE TRIGGER USER"]
        triggers += ["ALTER TABLE audit_log DISABLE TRIGGER USER"]
    with catalog.database.transaction(write=True) as connection:
        for statement in (*triggers, *statements):
            connection.execute(text(statement))


def test_a_head_is_signed_when_asked(tmp_path: Path) -> None:
    """The note covers every entry, verifies with the key, and holds against the log."""
    with open_catalog(tmp_path) as catalog:
        grow(catalog, 3)
        signer = signer_of(catalog, tmp_path)
        note = asyncio.run(signer.sign())
        head = open_note(note, asyncio.run(signer.key()))
        assert (head.size, head.at_ms) == (3, AT_MS)
        documents = catalog.read(entries, after=0, until=3, limit=10)
        assert verify_log(documents, [head], kept=None).head == head


def test_an_unchanged_log_is_not_signed_again(tmp_path: Path) -> None:
    """Asking twice gives the same note; new entries give a new one, and both are kept."""
    with open_catalog(tmp_path) as catalog:
        grow(catalog)
        signer = signer_of(catalog, tmp_path)
        first = asyncio.run(signer.sign())
        assert asyncio.run(signer.sign()) == first
        grow(catalog)
        second = asyncio.run(signer.sign())
        assert catalog.read(signed_notes, limit=9) == [second, first]


def test_the_key_stays(tmp_path: Path) -> None:
    """The key is made once, for its owner alone, and found again at the next start."""
    with open_catalog(tmp_path) as catalog:
        first = asyncio.run(signer_of(catalog, tmp_path).key())
        assert asyncio.run(signer_of(catalog, tmp_path).key()) == first
    file = tmp_path / "audit" / "key.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_damaged_key_is_no_reason_for_a_new_one(tmp_path: Path) -> None:
    """A key file that cannot be read is reported, never replaced silently."""
    file = tmp_path / "audit" / "key.pem"
    audit_signer(file)
    file.write_bytes(b"-----BEGIN nothing")
    with pytest.raises(FormatError, match="put the one from before back"):
        audit_signer(file)


def test_a_key_behind_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted key file signs heads, by the passphrase that the environment names; no plain
    key is made beside it."""
    path, plain = tmp_path / "audit.key", tmp_path / "audit" / "key.pem"
    public = create_key_file(path, b"geheim", work=1 << 10)
    (tmp_path / "passphrase").write_text("geheim\n")
    with pytest.raises(UsageError, match="EDGE_KEY_PASSPHRASE_FILE"):
        audit_signer(plain, uri=uri_of(path))
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    signer = audit_signer(plain, uri=uri_of(path))
    assert not plain.exists()
    with open_catalog(tmp_path) as catalog:
        grow(catalog)
        heads = HeadSigner(catalog.database, signer, clock_ms=lambda: AT_MS, every_s=60)
        head = open_note(
            asyncio.run(heads.sign()), VerifierKey.of(catalog.read(log_state).origin, public)
        )
        assert head.size == 1
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE_FILE", str(path))
    with pytest.raises(TrustError):
        audit_signer(plain, uri=uri_of(path))


def test_a_key_elsewhere(tmp_path: Path) -> None:
    """Of any scheme that securesystemslib knows, by URI and public half; only Ed25519 signs
    heads, and the halves have to belong together."""
    plain = tmp_path / "key.pem"

    def halves(name: str, signer: CryptoSigner) -> tuple[str, str]:
        private, public = tmp_path / name, tmp_path / f"{name}.pub"
        private.write_bytes(signer.private_bytes)
        crypto = signer._private_key.public_key()
        public.write_bytes(crypto.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return f"file2:{private}", str(public)

    uri, public = halves("one", CryptoSigner.generate_ed25519())
    other_uri, other = halves("two", CryptoSigner.generate_ed25519())
    curve_uri, curve = halves("three", CryptoSigner.generate_ecdsa())
    assert audit_signer(plain, uri=uri, public=public).public_key.scheme == "ed25519"
    for wrong in (
        {"uri": uri},
        {"public": public},
        {"uri": curve_uri, "public": curve},
        {"uri": "nothing:there", "public": public},
    ):
        with pytest.raises(UsageError):
            audit_signer(plain, **wrong)
    with pytest.raises((TrustError, UsageError)):
        audit_signer(plain, uri=other_uri, public=public)
    with pytest.raises(FormatError, match="no public key"):
        audit_signer(plain, uri=uri, public=str(tmp_path / "one"))
    with pytest.raises(NotFoundError):
        audit_signer(plain, uri=uri, public="missing.pem")
    assert not plain.exists()
    assert other


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM audit_entries WHERE number = 2"],
        ["DELETE FROM audit_entries WHERE number = 4", "UPDATE audit_log SET size = 3"],
        ["UPDATE audit_log SET head = '" + "0" * 64 + "'"],
        [
            "UPDATE audit_entries SET document = "
            "(SELECT document FROM audit_entries WHERE number = 3) WHERE number = 4"
        ],
    ],
)
def test_a_log_that_was_tampered_with_is_not_signed(tmp_path: Path, statements: list[str]) -> None:
    """What does not continue the last signed head gets no signature, so operators notice."""
    with open_catalog(tmp_path) as catalog:
        grow(catalog)
        signer = signer_of(catalog, tmp_path)
        asyncio.run(signer.sign())
        grow(catalog, 3)
        tamper(catalog, *statements)
        with pytest.raises(TrustError):
            asyncio.run(signer.sign())


def test_a_cut_below_the_last_signature_is_not_signed(tmp_path: Path) -> None:
    """A log shorter than what was signed of it is refused, too."""
    with open_catalog(tmp_path) as catalog:
        grow(catalog, 3)
        signer = signer_of(catalog, tmp_path)
        asyncio.run(signer.sign())
        tamper(
            catalog,
            "DELETE FROM audit_entries WHERE number > 1",
            "UPDATE audit_log SET size = 1",
        )
        with pytest.raises(TrustError, match="does not continue"):
            asyncio.run(signer.sign())


def test_another_key_signs_the_same_log(tmp_path: Path) -> None:
    """After the key was replaced the same end is signed again; both notes are kept."""
    with open_catalog(tmp_path) as catalog:
        grow(catalog)
        asyncio.run(signer_of(catalog, tmp_path).sign())
        again = signer_of(catalog, tmp_path / "elsewhere")
        note = asyncio.run(again.sign())
        assert open_note(note, asyncio.run(again.key())).size == 1
        assert len(catalog.read(signed_notes, limit=9)) == 2


def test_heads_are_signed_by_themselves(tmp_path: Path) -> None:
    """The task signs what came; a refusal does not end it."""

    async def until_signed(catalog: Catalog) -> None:
        signer = signer_of(catalog, tmp_path, every_s=0.01)
        signer.start()
        async with asyncio.timeout(20):
            while not await catalog.database.read(signed_notes, limit=1):
                await asyncio.sleep(0.01)
        await signer.close()

    with open_catalog(tmp_path) as catalog:
        grow(catalog)
        asyncio.run(until_signed(catalog))
