"""Metadata over a connection: within limits, and put as compare-and-swap."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_sdk import trust
from edge_sdk.base import ConflictError, FormatError, NotFoundError, RefusedError, TrustError
from edge_sdk.fleet import MetadataClient, Patience, TrustMarks
from edge_sdk.protos import metadata_v1_pb2 as wire
from tests.support.artifacts import make_artifact
from tests.support.trust import SignedFleet


class Stub:
    """A distributor's answers, over what a ``SignedFleet`` holds."""

    def __init__(self) -> None:
        self.fleet = SignedFleet()
        self.puts: list[list[str]] = []
        self.lost = 0  # so many puts lose the race from now on
        self.keys: list[wire.OnlineKey] = []

    def Get(self, request: wire.GetRequest, timeout: float) -> Iterator[wire.MetadataFrame]:
        if request.name not in self.fleet.files:
            raise NotFoundError(f"no {request.name}")
        data = self.fleet.files[request.name]
        for at in range(0, len(data), 100):
            yield wire.MetadataFrame(data=data[at : at + 100])

    def Put(self, request: wire.PutRequest, timeout: float) -> wire.PutResponse:
        self.puts.append([one.name for one in request.files])
        if self.lost:
            self.lost -= 1
            made = make_artifact({"m.bin": b"x"}, version=f"9.{self.lost}.0")
            self.fleet.publish(made.document)  # somebody else was faster
            raise ConflictError("lost")
        return wire.PutResponse(unsigned_roles=["ns_lab"])

    def OnlineKeys(
        self, request: wire.OnlineKeysRequest, timeout: float
    ) -> wire.OnlineKeysResponse:
        return wire.OnlineKeysResponse(keys=self.keys)


class Connection:
    """Only what the client uses of one."""

    def __init__(self, stub: Stub) -> None:
        self.metadata = stub
        self.patience = Patience()
        self.paused: list[int] = []

    def repeat(self, call: Callable[[], Any]) -> Any:
        return call()

    def pause(self, attempt: int) -> None:
        self.paused.append(attempt)


class Keys:
    def __init__(self, fleet: SignedFleet, *, rooted: bool = True) -> None:
        self.fleet = fleet
        self.rooted = rooted

    def signers(self, role: str, key_ids: list[str]) -> list[Any]:
        return [self.fleet.publishers["team"]]

    def root(self) -> bytes | None:
        return self.fleet.root if self.rooted else None


@pytest.fixture
def scene(tmp_path: Path) -> SimpleNamespace:
    stub = Stub()
    connection = Connection(stub)
    client = MetadataClient(connection, TrustMarks(tmp_path))  # type: ignore[arg-type]
    return SimpleNamespace(stub=stub, connection=connection, client=client)


def test_a_file_beyond_its_limit(scene: SimpleNamespace) -> None:
    """Reading ends where a file has more bytes than its role may have, however long it goes on."""
    scene.stub.fleet.files["timestamp.json"] = b" " * (trust.TIMESTAMP_BYTES_MAX + 1)
    with pytest.raises(FormatError, match="more than"):
        scene.client.get("timestamp.json")
    scene.stub.fleet.files["timestamp.json"] = b" " * trust.TIMESTAMP_BYTES_MAX
    assert len(scene.client.get("timestamp.json")) == trust.TIMESTAMP_BYTES_MAX


def test_whoever_loses_signs_again(scene: SimpleNamespace) -> None:
    """After each lost race the next version is signed over what won; pauses grow between."""
    scene.stub.lost = 3
    made = make_artifact({"m.bin": b"x"})
    assert scene.client.publish(Keys(scene.stub.fleet), made.manifest, made.document, None)
    assert scene.stub.puts == [[f"{n}.ns_team.json"] for n in (2, 3, 4, 5)]
    assert scene.connection.paused == [0, 1, 2]


def test_whoever_always_loses(scene: SimpleNamespace) -> None:
    """Losing again and again ends with a conflict that says to publish again."""
    scene.stub.lost = 1000
    made = make_artifact({"m.bin": b"x"})
    with pytest.raises(ConflictError, match="publish it again"):
        scene.client.publish(Keys(scene.stub.fleet), made.manifest, made.document, None)
    assert len(scene.stub.puts) == 20


def test_what_is_signed_already(scene: SimpleNamespace) -> None:
    """Nothing is put for what is a target just so."""
    made = make_artifact({"m.bin": b"x"})
    scene.stub.fleet.publish(made.document)
    assert not scene.client.publish(Keys(scene.stub.fleet), made.manifest, made.document, None)
    assert scene.stub.puts == []


def test_a_captured_distributor_shows_the_past(scene: SimpleNamespace) -> None:
    """A publisher signs nothing over what was served before its own last version, however new
    the snapshot around it is, though it never fetched that version again."""
    captured = copy.deepcopy(scene.stub.fleet)
    keys = Keys(scene.stub.fleet)
    first, second = (make_artifact({"m.bin": b"x"}, version=f"{n}.0.0") for n in (1, 2))
    assert scene.client.publish(keys, first.manifest, first.document, None)
    scene.stub.puts.clear()
    captured.put([])
    scene.stub.fleet = captured
    with pytest.raises(TrustError, match="ns_team: the distributor shows version 1"):
        scene.client.publish(keys, second.manifest, second.document, None)
    assert scene.stub.puts == []


def test_without_a_root(scene: SimpleNamespace) -> None:
    """Keys without a root to trust sign nothing, and neither is anything signed for a distributor
    without metadata."""
    with pytest.raises(RefusedError, match="no root to trust: copy root"):
        scene.client.repository(Keys(scene.stub.fleet, rooted=False))
    keys = Keys(SignedFleet())
    scene.stub.fleet.files.clear()
    with pytest.raises(RefusedError, match="lacks signed metadata"):
        scene.client.repository(keys)
    assert not scene.client.is_signing()


def test_what_a_put_answers(scene: SimpleNamespace) -> None:
    """The namespaces that nobody believes after a put are told."""
    assert scene.client.put([("1.targets.json", b"{}")]) == ("ns_lab",)


def test_online_keys_that_are_none(scene: SimpleNamespace) -> None:
    """An online key that cannot be read is a FormatError that names its role."""
    scene.stub.keys = [wire.OnlineKey(role="snapshot", key_id="ab", key=b"[]")]
    with pytest.raises(FormatError, match="snapshot"):
        scene.client.online_keys()
