"""The distributor's own keys: files that only it can read, or keys elsewhere by URI."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from distributor.signing import OnlineKeys
from edge_sdk.base import (
    ConflictError,
    FormatError,
    NotFoundError,
    RefusedError,
    TrustError,
    UsageError,
)
from edge_sdk.trust import create_key_file, uri_of


@pytest.fixture
def keys(tmp_path: Path) -> OnlineKeys:
    keys = OnlineKeys(tmp_path / "keys")
    assert keys.create()
    return keys


def test_one_key_for_each_role(keys: OnlineKeys, tmp_path: Path) -> None:
    """There is one key for snapshot, timestamp and assignments, in files of their owner alone."""
    assert [one.role for one in keys.all()] == ["snapshot", "timestamp", "assignments"]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    files = sorted((tmp_path / "keys").glob("*.pem"))
    assert len(files) == 3
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    assert not keys.create(), "a second time makes nothing"


def test_a_signer_of_the_right_key(keys: OnlineKeys) -> None:
    """A key signs for its own role only, and what it signs verifies with its public half."""
    key = keys.all()[0]
    (signer,) = keys.signers("snapshot", [key.key_id])
    key.public.verify_signature(signer.sign(b"said"), b"said")
    assert keys.signers("timestamp", [key.key_id]) == []
    assert keys.signers("snapshot", ["ab" * 32]) == []


def test_a_key_added_by_another_process_is_known_at_once(keys: OnlineKeys, tmp_path: Path) -> None:
    """The command adds a key while the distributor serves: it needs no restart."""
    made = OnlineKeys(tmp_path / "keys").add("timestamp")
    assert len(keys.signers("timestamp", [made.key_id])) == 1


def test_a_folder_that_was_moved(keys: OnlineKeys, tmp_path: Path) -> None:
    """Files are named within the folder, so a data folder can be moved with its keys."""
    known = keys.all()
    moved = (tmp_path / "keys").rename(tmp_path / "else#where?")
    assert len(OnlineKeys(moved).signers("snapshot", [known[0].key_id])) == 1


def test_a_key_elsewhere(keys: OnlineKeys, tmp_path: Path) -> None:
    """A key that any scheme of securesystemslib opens is used by its URI, after it was tried."""
    signer = CryptoSigner.generate_ed25519()
    path = tmp_path / "other.pem"
    path.write_bytes(signer.private_bytes)
    added = keys.add("snapshot", uri=f"file2:{path}", public=signer.public_key)
    (opened,) = keys.signers("snapshot", [added.key_id])
    signature = opened.sign(b"said")
    assert isinstance(signature, Signature)
    signer.public_key.verify_signature(signature, b"said")


def test_an_encrypted_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted key file gets its passphrase from a file that the environment names."""
    keys = OnlineKeys(tmp_path / "keys")
    keys.create()
    public = create_key_file(tmp_path / "it.key", b"secret", work=2)
    uri = uri_of(tmp_path / "it.key")
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE", raising=False)
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE_FILE", raising=False)
    with pytest.raises(UsageError, match="EDGE_KEY_PASSPHRASE_FILE"):
        keys.add("timestamp", uri=uri, public=public)
    (tmp_path / "passphrase").write_text("secret\n")
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    assert keys.add("timestamp", uri=uri, public=public).uri == uri


def test_what_cannot_be_added(keys: OnlineKeys, tmp_path: Path) -> None:
    """An unknown role, half a key, a key that is there already, one under another id, a private
    half of another: each is refused, and the list stays what it was."""
    before = keys.all()
    known = before[0]
    other = CryptoSigner.generate_ed25519()
    (tmp_path / "other.pem").write_bytes(other.private_bytes)
    uri = f"file2:{tmp_path / 'other.pem'}"
    with pytest.raises(UsageError, match="no online role"):
        keys.add("root")
    with pytest.raises(UsageError, match="both"):
        keys.add("snapshot", uri=uri)
    with pytest.raises(ConflictError, match="already"):
        keys.add("snapshot", uri=uri, public=known.public)
    twin = SSlibKey("ab" * 32, known.public.keytype, known.public.scheme, known.public.keyval)
    with pytest.raises(RefusedError, match="one and the same"):
        keys.add("snapshot", uri=uri, public=twin)
    with pytest.raises((TrustError, UsageError)):
        keys.add("snapshot", uri=uri, public=CryptoSigner.generate_ed25519().public_key)
    with pytest.raises(UsageError, match="nothing"):
        keys.add("snapshot", uri="nothing:x", public=other.public_key)
    assert keys.all() == before


def test_a_file_that_everybody_may_read(keys: OnlineKeys, tmp_path: Path) -> None:
    """A private key that others may read is not used; the message says what to do."""
    key = keys.all()[0]
    file = tmp_path / "keys" / key.uri.removeprefix("file:")
    file.chmod(0o604)
    with pytest.raises(UsageError, match=f"chmod 600 {file}"):
        keys.signers(key.role, [key.key_id])


def test_what_is_damaged_or_gone(keys: OnlineKeys, tmp_path: Path) -> None:
    """A list or a key that is no such thing is a typed error; a lost list says what to do."""
    key = keys.all()[0]
    file = tmp_path / "keys" / key.uri.removeprefix("file:")
    file.write_bytes(b"garbage")
    with pytest.raises(FormatError, match="private half"):
        keys.signers(key.role, [key.key_id])
    file.unlink()
    with pytest.raises(NotFoundError):
        keys.signers(key.role, [key.key_id])
    (tmp_path / "keys" / "online.json").write_text("{}")
    with pytest.raises(FormatError):
        keys.all()
    (tmp_path / "keys" / "online.json").unlink()
    with pytest.raises(NotFoundError, match="edge-distributor keys create"):
        keys.all()


def test_a_key_is_forgotten(keys: OnlineKeys, tmp_path: Path) -> None:
    """A key that was taken out of the list is gone with its file."""
    key = keys.all()[0]
    assert keys.forget(key.key_id) == key
    assert not (tmp_path / "keys" / key.uri.removeprefix("file:")).exists()
    assert key not in keys.all()
    with pytest.raises(NotFoundError):
        keys.forget(key.key_id)
