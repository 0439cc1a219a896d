"""What publishers put, what is signed over it, and what clients make of it."""

from __future__ import annotations

from pathlib import Path

from tests.support.signing import Signing, client_finds


def test_a_client_finds_what_was_put(signed: Signing, tmp_path: Path) -> None:
    """A published artifact is a target that python-tuf's client accepts from the first root on."""
    signed.begin("team")
    artifact = signed.publish("1.0.0")
    found = client_finds(signed.everything(), "team/digits/1.0.0/fp32.json", tmp_path / "client")
    assert found is not None
    assert found.hashes == {"sha256": str(artifact.artifact)}
    assert found.length == len(artifact.document)
