"""Publishers and a real distributor over real gRPC."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.base import EdgeError, TrustError, UsageError
from edge_sdk.fleet import Draft, Fleet, KeyFolder
from tests.support.signed_fleet import first_keys, key_folder

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the distributor needs 3.11")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    from tests.support.fleet_server import fleet_server

    with fleet_server(tmp_path / "data") as server:
        yield server.serving.operator_address


def draft(version: str, **facts: object) -> Draft:
    return Draft(model="team/digits", version=version, variant="fp32", **facts)  # type: ignore[arg-type]


def test_two_publishers_at_once_both_get_in(address: str, tmp_path: Path) -> None:
    """Ten versions by two publishers at once are all targets: who loses a race signs again."""
    keys = first_keys(address, tmp_path / "keys", "team")
    start = threading.Barrier(2)
    failed: list[BaseException] = []

    def publisher(numbers: range) -> None:
        folder = KeyFolder(keys.folder, lambda _name: b"of tests")
        try:
            with Fleet(address, operator="tester", keys=folder) as fleet:
                start.wait(10)
                for number in numbers:
                    file = tmp_path / f"{number}.bin"
                    file.write_bytes(b"model %d" % number)
                    fleet.publish(file, draft(f"1.{number}.0"))
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=publisher, args=(range(n, 10, 2),)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with Fleet(address, operator="tester") as fleet:
        repository = fleet.metadata.repository(keys)
        document = repository.document("ns_team", repository.targets)
    assert document is not None
    assert sorted(document.signed.targets) == [f"team/digits/1.{n}.0/fp32.json" for n in range(10)]
    assert document.signed.version == 11


def test_keys_that_cannot_sign_are_known_first(address: str, tmp_path: Path) -> None:
    """Without the passphrase, with a wrong one, or without a key of the namespace nothing is
    computed and nothing is uploaded."""
    keys = first_keys(address, tmp_path / "keys", "team")
    (tmp_path / "m.bin").write_bytes(b"model")
    cases: list[tuple[KeyFolder, str, type[EdgeError], str]] = [
        (KeyFolder(keys.folder), "team", UsageError, "EDGE_KEY_PASSPHRASE_FILE"),
        (KeyFolder(keys.folder, lambda _: b"wrong"), "team", TrustError, "passphrase"),
        (key_folder(keys.folder), "lab", TrustError, "do not delegate to ns_lab"),
    ]
    for held, namespace, error, match in cases:
        with Fleet(address, operator="tester", keys=held) as fleet:
            with pytest.raises(error, match=match):
                fleet.publish(
                    tmp_path / "m.bin",
                    Draft(model=f"{namespace}/digits", version="1.0.0", variant="fp32"),
                )
            assert fleet.models() == ()
