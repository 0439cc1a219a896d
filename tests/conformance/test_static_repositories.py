"""Repositories as other tools make them: read as they lie there, at their own time."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from tests.support.metadata_client import ClientRig
from tests.support.tuf_repository import Repository


def of_sigstore_kind() -> Repository:
    """P-256 keys, three of five for the root, many roots, and files without prefix folders."""
    repository = Repository()
    signers = [CryptoSigner.generate_ecdsa() for _ in range(5)]
    repository.roles["root"].roles["root"].keyids.clear()
    repository.keys["root"].clear()
    for signer in signers:
        repository.add_key("root", signer)
    repository.roles["root"].roles["root"].threshold = 3
    repository.roles["root"].version = 0
    for number in range(13):
        repository.keys["root"] = signers[number % 3 : number % 3 + 3]
        repository.publish("root")
    return repository


def of_tuf_on_ci_kind() -> Repository:
    """Fields of a tool's own in root and keys, and a delegated role, lengths and hashes."""
    repository = Repository(hashes=True)
    for role in ("root", "targets"):
        repository.roles[role].unrecognized_fields["x-tool-expiry-period"] = 365
    for key in repository.roles["root"].keys.values():
        key.unrecognized_fields["x-tool-keyowner"] = "@somebody"
    repository.delegate("targets", "delegatedrole", ["delegatedrole/*"])
    repository.publish("root", bump=False)
    return repository


@pytest.mark.parametrize("kind", [of_sigstore_kind, of_tuf_on_ci_kind])
def test_static_repository(tmp_path: Path, kind: type) -> None:
    """The whole way from the first root to a file."""
    repository = kind()
    delegated = "delegatedrole" in repository.roles
    path = "delegatedrole/artifact" if delegated else "trusted_root.json"
    role = "delegatedrole" if delegated else "targets"
    repository.add(path, b"content", role)
    repository.release(*dict.fromkeys((role, "targets")))
    client = ClientRig(tmp_path, repository)
    assert client.download(path) == b"content"
