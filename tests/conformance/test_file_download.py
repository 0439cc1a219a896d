"""Files that the metadata vouch for, and no others."""

from __future__ import annotations

import pytest

from tests.support.metadata_client import ClientRig


def test_client_downloads_expected_file(client: ClientRig) -> None:
    """A refresh downloads nothing; a download brings the file."""
    client.repository.add("file.txt", b"content")
    client.repository.release("targets")
    client.refresh()
    assert client.downloaded() == []
    assert client.download("file.txt") == b"content"
    assert client.downloaded() == [b"content"]


def test_client_downloads_expected_file_in_sub_dir(client: ClientRig) -> None:
    """Also where its path has folders."""
    client.repository.add("path/to/a/file.txt", b"content")
    client.repository.release("targets")
    assert client.download("path/to/a/file.txt") == b"content"
    assert client.downloaded() == [b"content"]


def test_repository_substitutes_target_file(client: ClientRig) -> None:
    """Other bytes under the same name are never kept, neither anew nor over good ones."""
    for name in ("one.txt", "two.txt"):
        client.repository.add(name, b"content of " + name.encode())
    client.repository.release("targets")
    assert client.download("one.txt") == b"content of one.txt"
    for name in client.repository.artifacts:
        client.repository.artifacts[name] = b"malicious"
    client.download("one.txt")
    assert client.downloaded() == [b"content of one.txt"]
    assert client.download("two.txt") is None
    assert client.downloaded() == [b"content of one.txt"]


def test_multiple_changes_to_target(client: ClientRig) -> None:
    """Ten rounds: a good change arrives, a change that the metadata do not know does not."""
    for number in range(10):
        good = b"version %d" % number
        client.repository.add("file.txt", good)
        client.repository.release("targets")
        assert client.download("file.txt") == good
        for name in client.repository.artifacts:
            client.repository.artifacts[name] = b"malicious %d" % number
        client.repository.release("targets")
        client.download("file.txt")
        assert client.downloaded() == [good]


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_download_with_hash_algorithms(client: ClientRig, algorithm: str) -> None:
    """Any algorithm that the client knows."""
    client.repository.add("file.txt", b"content", by=algorithm)
    client.repository.release("targets")
    assert client.download("file.txt") == b"content"


def test_download_with_unknown_hash_algorithm(client: ClientRig) -> None:
    """A hash that cannot be computed proves nothing."""
    client.repository.add("file.txt", b"content")
    target = client.repository.roles["targets"].targets["file.txt"]
    target.hashes = {"unheard-of": target.hashes["sha256"]}
    client.repository.release("targets")
    assert client.download("file.txt") is None
    assert client.downloaded() == []


def test_artifact_cache(client: ClientRig) -> None:
    """What is there already is not downloaded again."""
    client.repository.add("file.txt", b"content")
    client.repository.release("targets")
    assert client.download("file.txt") == b"content"
    assert any("file.txt" in name for name in client.repository.asked)
    assert client.download("file.txt") == b"content"
    assert not any("file.txt" in name for name in client.repository.asked)
