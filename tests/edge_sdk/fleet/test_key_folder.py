"""A folder of keys: encrypted files and URIs by role, and the root that is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey

from edge_sdk.base import ConflictError, NotFoundError, RefusedError, TrustError, UsageError
from edge_sdk.fleet import KeyFolder
from tests.support.signed_fleet import key_folder


def test_a_key_signs_for_its_role(tmp_path: Path) -> None:
    """A new key is an encrypted file of its owner alone, and signs for its role only."""
    keys = key_folder(tmp_path / "keys")
    made = keys.create("ns_team")
    file = tmp_path / "keys" / "ns_team.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    (signer,) = keys.signers("ns_team", [made.key_id])
    made.public.verify_signature(signer.sign(b"said"), b"said")
    assert keys.signers("ns_lab", [made.key_id]) == []
    assert keys.signers("ns_team", ["ab" * 32]) == []


def test_the_passphrase_is_asked_once(tmp_path: Path) -> None:
    """Making and opening several files asks one time; a wrong passphrase opens nothing."""
    asked: list[str] = []

    def ask(name: str) -> bytes:
        asked.append(name)
        return b"secret"

    keys = KeyFolder(tmp_path / "keys", ask, work=2)
    made = [keys.create(role) for role in ("root", "targets")]
    for one in made:
        assert keys.signers(one.role, [one.key_id])
    assert asked == ["passphrase"]
    wrong = key_folder(tmp_path / "keys", b"other")
    with pytest.raises(TrustError, match="passphrase"):
        wrong.signers("root", [made[0].key_id])


def test_a_folder_that_was_moved(tmp_path: Path) -> None:
    """Keys are named within the folder."""
    made = key_folder(tmp_path / "keys").create("root")
    moved = (tmp_path / "keys").rename(tmp_path / "else#where ?")
    assert key_folder(moved).signers("root", [made.key_id])


def test_a_key_elsewhere(tmp_path: Path) -> None:
    """A key is used where it is, by URI, after it was tried; the same key twice is refused."""
    signer = CryptoSigner.generate_ed25519()
    path = tmp_path / "other.pem"
    path.write_bytes(signer.private_bytes)
    keys = key_folder(tmp_path / "keys")
    added = keys.add("root", f"file2:{path}", signer.public_key)
    assert keys.signers("root", [added.key_id])
    with pytest.raises(ConflictError, match="already"):
        keys.add("root", f"file2:{path}", signer.public_key)
    public = signer.public_key
    twin = SSlibKey("ab" * 32, public.keytype, public.scheme, public.keyval)
    with pytest.raises(RefusedError, match="one and the same"):
        keys.add("root", f"file2:{path}", twin)
    with pytest.raises(UsageError):
        keys.add(
            "root", f"file2:{tmp_path / 'none.pem'}", CryptoSigner.generate_ed25519().public_key
        )
    assert len(keys.all()) == 1


def test_the_root_that_is_trusted(tmp_path: Path) -> None:
    """It is kept beside the keys; before, there is none."""
    keys = key_folder(tmp_path / "keys")
    keys.create("root")
    assert keys.root() is None
    keys.trust_root(b"root")
    assert keys.root() == b"root"


def test_a_folder_without_keys(tmp_path: Path) -> None:
    """It says how to make some."""
    with pytest.raises(NotFoundError, match="edge-fleet keys init"):
        key_folder(tmp_path).all()


def test_the_passphrase_of_pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody to ask it comes from EDGE_KEY_PASSPHRASE, or the first line of the file of
    EDGE_KEY_PASSPHRASE_FILE; neither is an error that names both."""
    for name in ("EDGE_KEY_PASSPHRASE", "EDGE_KEY_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "keys"
    with pytest.raises(UsageError, match="EDGE_KEY_PASSPHRASE_FILE or EDGE_KEY_PASSPHRASE"):
        KeyFolder(folder, work=2).create("root")
    file = tmp_path / "passphrase"
    file.write_bytes(b"of tests\r\nsecond line\n")
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE_FILE", str(file))
    made = KeyFolder(folder, work=2).create("root")
    assert key_folder(folder).signers("root", [made.key_id])
    file.write_bytes(b"\n")
    with pytest.raises(UsageError, match="is empty"):
        KeyFolder(folder, work=2).create("targets")
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE_FILE", str(tmp_path / "none"))
    with pytest.raises(NotFoundError):
        KeyFolder(folder, work=2).create("targets")
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", "of tests")
    made = KeyFolder(folder, work=2).create("targets")
    assert key_folder(folder).signers("targets", [made.key_id])


def test_who_gives_no_passphrase_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C where the passphrase is asked for leaves not even a folder."""

    def interrupted(_name: str) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KeyFolder(tmp_path / "keys", interrupted).create("root")
    assert list(tmp_path.iterdir()) == []
