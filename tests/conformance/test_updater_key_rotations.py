"""New keys, new thresholds: every root is signed by the old ones and by the new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Role

from tests.support.metadata_client import ClientRig
from tests.support.tuf_repository import Repository

FIVE, OTHER, NEXT = (0, 1, 2, 3, 4), (0, 1, 3, 4, 5), (5, 6, 7, 8, 9)
# Each version: keys, threshold, signatures.
Version = tuple[Sequence[int], int, Sequence[int]]
GOOD: dict[str, Sequence[Version]] = {
    "1-of-1-key-rotation": [([1], 1, [1]), ([2], 1, [2, 1]), ([2], 1, [2])],
    "1-of-1-key-rotation-unused-signatures": [
        ([1], 1, [3, 1, 4]),
        ([2], 1, [3, 2, 1, 4]),
        ([2], 1, [3, 2, 4]),
    ],
    "3-of-5-sign-with-different-keycombos": [
        (FIVE, 3, [0, 2, 4]),
        (FIVE, 3, [0, 4, 1]),
        (FIVE, 3, [0, 1, 3]),
        (FIVE, 3, [0, 1, 3]),
    ],
    "3-of-5-one-key-rotated": [(FIVE, 3, [0, 2, 4]), (OTHER, 3, [0, 4, 1])],
    "3-of-5-one-key-rotated-with-intermediate-step": [
        (FIVE, 3, [0, 2, 4]),
        (OTHER, 3, [0, 2, 4, 5]),
        (OTHER, 3, [0, 4, 5]),
    ],
    "3-of-5-all-keys-rotated-with-intermediate-step": [
        (FIVE, 3, [0, 2, 4]),
        (NEXT, 3, [0, 2, 4, 5, 6, 7]),
        (NEXT, 3, [5, 6, 7]),
    ],
    "1-of-3-threshold-increase-to-2-of-3": [([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [1, 2])],
    "2-of-3-threshold-decrease-to-1-of-3": [
        ([1, 2, 3], 2, [1, 2]),
        ([1, 2, 3], 1, [1, 2]),
        ([1, 2, 3], 1, [1]),
    ],
    "1-of-2-threshold-increase-to-2-of-2": [([1], 1, [1]), ([1, 2], 2, [1, 2])],
}
BAD: dict[str, Sequence[Version]] = {
    "1-of-1-key-rotation-fail-not-signed-with-old-key": [([1], 1, [1]), ([2], 1, [2, 3, 4])],
    "1-of-1-key-rotation-fail-not-signed-with-new-key": [([1], 1, [1]), ([2], 1, [1, 3, 4])],
    "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys": [
        (FIVE, 3, [0, 2, 4]),
        (OTHER, 3, [0, 2, 4]),
    ],
    "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys": [
        (FIVE, 3, [0, 2, 4]),
        (OTHER, 3, [0, 4, 5]),
    ],
    "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached": [
        ([1, 2, 3], 1, [1]),
        ([1, 2, 3], 2, [2]),
    ],
    "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-reached": [
        ([1, 2, 3], 2, [1, 2]),
        ([1, 2, 3], 1, [1]),
    ],
}
OF_OTHER_ROLES: dict[str, tuple[Version, bool]] = {
    "1-of-1-key-rotation": (([2], 1, [2]), True),
    "1-of-1-key-rotation-unused-signatures": (([1], 1, [3, 1, 4]), True),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": (([2], 1, [1, 3, 4]), False),
    "3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys": (
        (OTHER, 3, [0, 2, 4]),
        False,
    ),
    "2-of-5-one-key-signature-missing-threshold-not-reached": ((OTHER, 3, [0, 4]), False),
    "3-of-5-sign-first-combo": ((FIVE, 3, [0, 2, 4]), True),
    "3-of-5-sign-second-combo": ((FIVE, 3, [0, 4, 1]), True),
    "3-of-5-sign-third-combo": ((FIVE, 3, [0, 1, 3]), True),
    "3-of-5-sign-fourth-combo": ((FIVE, 3, [1, 2, 3]), True),
    "3-of-5-sign-fifth-combo": ((FIVE, 3, [2, 3, 4]), True),
}
SIGNERS = [CryptoSigner.generate_ed25519() for _ in range(10)]


def give(repository: Repository, role: str, version: Version) -> None:
    keys, threshold, signatures = version
    repository.roles["root"].roles[role] = Role([], threshold)
    for number in keys:
        repository.roles["root"].add_key(SIGNERS[number].public_key, role)
    repository.keys[role] = [SIGNERS[number] for number in signatures]


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_root_rotation(tmp_path: Path, name: str) -> None:
    """The newest root that the rules lead to is kept, byte for byte, and none beyond it."""
    versions = GOOD.get(name) or BAD[name]
    repository = Repository()
    repository.roles["root"].version = 0
    for version in versions:
        give(repository, "root", version)
        repository.publish("root")
    client = ClientRig(tmp_path, repository)
    last = len(versions)
    if name in GOOD:
        client.refresh()
    else:
        assert client.refused() == "UnsignedMetadataError"
        last -= 1
    assert client.kept("root") == repository.served[f"{last}.root.json"]


@pytest.mark.parametrize("name", OF_OTHER_ROLES)
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_non_root_rotations(client: ClientRig, name: str, role: str) -> None:
    """A role has to be signed as the newest root says."""
    version, good = OF_OTHER_ROLES[name]
    client.refresh()
    give(client.repository, role, version)
    client.repository.publish("root")
    client.repository.release("targets")
    assert client.refused() == ("" if good else "UnsignedMetadataError")
    assert client.trusted()["root"] == 2
    assert client.trusted()[role] == (2 if good else 1)
