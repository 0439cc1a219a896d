"""Lists of keys as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Key, Signature, Signer

from edge_sdk.base import FormatError, NotFoundError, UnavailableError, UsageError
from edge_sdk.trust import (
    ListedKey,
    file_beside,
    new_namespace,
    open_signer,
    read_key_list,
    sign,
    write_key_list,
)
from tests.support.trust import new_key, now


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """A list comes back as it was, in its order, with keys under their ids."""
    keys = tuple(
        ListedKey(role=role, uri=f"file:{role}.key", public=new_key().public_key)
        for role in ("root", "targets", "ns_team")
    )
    write_key_list(tmp_path / "keys.json", keys)
    assert read_key_list(tmp_path / "keys.json") == keys
    write_key_list(tmp_path / "keys.json", keys[:1])
    assert read_key_list(tmp_path / "keys.json") == keys[:1]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "keys": []}', '{"format": 1, "keys": [1]}', "\xff"],
)
def test_what_is_no_list(tmp_path: Path, text: str) -> None:
    """Anything else is a FormatError that names the file."""
    path = tmp_path / "keys.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=r"keys\.json"):
        read_key_list(path)


def test_a_key_that_is_none(tmp_path: Path) -> None:
    """An entry whose public half cannot be read is a FormatError."""
    path = tmp_path / "keys.json"
    key = {"role": "root", "uri": "file:a", "key_id": "ab", "public": {"keytype": "ed25519"}}
    path.write_text(json.dumps({"format": 1, "keys": [key]}))
    with pytest.raises(FormatError):
        read_key_list(path)


def test_no_list(tmp_path: Path) -> None:
    """A list that is not there is a NotFoundError."""
    with pytest.raises(NotFoundError):
        read_key_list(tmp_path / "keys.json")


@pytest.mark.parametrize("uri", ["file:", "file:../x", "file:/etc/x", "file:.x", "file:a\\b"])
def test_files_stay_beside_their_list(tmp_path: Path, uri: str) -> None:
    """A list cannot name a file anywhere else."""
    with pytest.raises(FormatError, match="no file beside"):
        file_beside(tmp_path / "keys.json", uri)
    assert file_beside(tmp_path / "keys.json", "file:a.key") == tmp_path / "a.key"


class _Elsewhere(Signer):
    """A key whose library is missing, or that does not answer."""

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> Signer:  # type: ignore[override]
        raise UnsupportedLibraryError("some-library required")

    @property
    def public_key(self) -> Key:
        return new_key().public_key

    def sign(self, payload: bytes) -> Signature:
        raise OSError("no answer")


def test_a_scheme_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a UsageError that says which library."""
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "elsewhere", _Elsewhere)
    with pytest.raises(UsageError, match="some-library"):
        open_signer("elsewhere:1", new_key().public_key, lambda _: b"")


def test_a_key_that_does_not_answer() -> None:
    """A key elsewhere that fails while it signs is unavailable: trying again can help."""
    document = new_namespace(now=now())
    with pytest.raises(UnavailableError, match="no answer"):
        sign(document, [_Elsewhere()])
