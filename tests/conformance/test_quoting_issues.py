"""Names of roles that are no good names of files."""

from __future__ import annotations

import pytest

from tests.support.metadata_client import ClientRig


@pytest.mark.parametrize("role", ["?", "#", "/delegatedrole", "../delegatedrole"])
def test_unusual_role_name(client: ClientRig, role: str) -> None:
    """It is found under its own name, and kept inside the folder."""
    client.repository.delegate("targets", role)
    client.repository.add("file.txt", b"content", role)
    client.repository.release(role, "targets")
    assert client.download("file.txt") == b"content"
    assert f"1.{role}.json" in client.repository.asked
    inside = {path.name for path in client.folder.parent.iterdir()}
    assert inside == {"metadata", "downloads"}
