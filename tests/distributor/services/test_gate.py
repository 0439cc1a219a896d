"""Models that can run code are published only where publisher and policy both want it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.audit import Entry, decode_entry
from edge_sdk.base import RefusedError
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.protos.operators_v1_pb2_grpc import AuditServiceStub
from edge_sdk.rpc import Credentials, open_channel, typed_errors
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.fleet_server import FleetServer, fleet_server, publish_parts

PICKLE = pickle.dumps({"anything": 1})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FleetServer]:
    """Namespace ``lab`` may publish models that can run code."""
    with fleet_server(tmp_path / "data", code_namespaces="lab, other") as one:
        yield one


def artifact(model: str, version: str = "1.0.0", data: bytes = PICKLE) -> ArtifactBytes:
    return make_artifact({"m.bin": b"weights", "extra.pkl": data}, model=model, version=version)


def publish(stub: FleetServiceStub, made: ArtifactBytes, *, allow_code: bool) -> bool:
    parts = list(publish_parts(made))
    parts[0].allow_code = allow_code
    with typed_errors("the distributor"):
        return stub.Publish(iter(parts), timeout=30).created


def published(stub: FleetServiceStub) -> list[str]:
    answer = stub.ListModels(fleet.ListModelsRequest(), timeout=30)
    return [f"{one.model} {one.version}" for one in answer.artifacts]


@pytest.mark.parametrize("allow_code", [False, True])
def test_a_namespace_without_leave_publishes_no_code(
    server: FleetServer, *, allow_code: bool
) -> None:
    """Whatever the publisher says: the distributor's policy is not the publisher's to make."""
    stub = server.operator()
    with pytest.raises(RefusedError, match=r"extra.pkl is or holds a pickle.*does not let.*team"):
        publish(stub, artifact("team/digits"), allow_code=allow_code)
    assert published(stub) == []


def test_a_publisher_has_to_want_it(server: FleetServer) -> None:
    """Where policy allows it, code that nobody meant to publish is refused still."""
    stub = server.operator()
    with pytest.raises(RefusedError, match="--allow-code"):
        publish(stub, artifact("lab/digits"), allow_code=False)
    assert published(stub) == []


def test_what_is_refused_leaves_nothing(server: FleetServer) -> None:
    """Neither a blob nor a staged file of the refused artifact stays."""
    with pytest.raises(RefusedError):
        publish(server.operator(), artifact("team/digits"), allow_code=True)
    objects = server.config.data / "objects"
    assert [one for one in objects.rglob("*") if one.is_file()] == []


def test_both_together_are_enough(server: FleetServer) -> None:
    """It is published then, and the audit log says that it can run code."""
    stub = server.operator()
    assert publish(stub, artifact("lab/digits"), allow_code=True)
    assert published(stub) == ["lab/digits 1.0.0"]
    assert last_entry(server).facts == {"code": "extra.pkl is or holds a pickle"}


def test_models_without_code_need_nothing(server: FleetServer) -> None:
    """The gate is not felt by anybody else, whether they allow code or not."""
    stub = server.operator()
    for version, allow in (("1.0.0", False), ("2.0.0", True)):
        made = make_artifact({"m.bin": version.encode()}, version=version)
        assert publish(stub, made, allow_code=allow)
    assert last_entry(server).facts == {}


def test_a_file_that_is_there_already_is_looked_at_again(server: FleetServer) -> None:
    """Code that another namespace was allowed does not come in by its digest."""
    stub = server.operator()
    publish(stub, artifact("lab/digits"), allow_code=True)
    made = artifact("team/digits")
    with pytest.raises(RefusedError, match="does not let namespace team"), typed_errors("it"):
        stub.Publish(iter([fleet.PublishRequest(manifest=made.document, allow_code=True)]))


def test_every_namespace_by_a_star(tmp_path: Path) -> None:
    """A distributor that lets everybody is one setting away, and publishers still say so."""
    with fleet_server(tmp_path / "data", code_namespaces="*") as one:
        assert publish(one.operator(), artifact("team/digits"), allow_code=True)


def last_entry(server: FleetServer) -> Entry:
    credentials = Credentials(operator="alice")
    with open_channel(server.serving.operator_address, credentials) as channel:
        pages = AuditServiceStub(channel).ListEntries(wire.ListEntriesRequest(), timeout=30)
        return [decode_entry(document) for page in pages for document in page.documents][-1]
