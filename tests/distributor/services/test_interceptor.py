"""Identity comes from the connection's metadata; errors leave typed."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edge_sdk.base import EdgeError, FormatError, NotFoundError, TrustError
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos.delivery_v1_pb2_grpc import DeliveryServiceStub
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.rpc import Credentials, open_channel, typed_errors
from tests.support.fleet_server import FleetServer, fleet_server, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    with fleet_server(tmp_path_factory.mktemp("door") / "data") as one:
        yield one


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(),
        Credentials(operator="alice"),
        Credentials(device="Not A Name"),
        Credentials(device=""),
    ],
)
def test_a_device_must_say_who_it_is(server: FleetServer, credentials: Credentials) -> None:
    """Without a device's name every kind of call is refused as unauthenticated."""
    with open_channel(server.serving.device_address, credentials) as channel:
        stub = DeliveryServiceStub(channel)
        calls = (
            lambda: stub.CheckIn(delivery.CheckInRequest(), timeout=30),
            lambda: list(stub.Watch(delivery.WatchRequest(), timeout=30)),
        )
        for call in calls:
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(TrustError), typed_errors("the distributor"):
                call()


def test_a_device_is_no_operator(server: FleetServer) -> None:
    """A device's name does not open the operators' door, nor are its services there."""
    with open_channel(server.serving.operator_address, Credentials(device="cam-1")) as channel:
        with pytest.raises(TrustError), typed_errors("the distributor"):
            FleetServiceStub(channel).Publish(iter(()), timeout=30)
        with pytest.raises(grpc.RpcError) as missing:
            DeliveryServiceStub(channel).CheckIn(delivery.CheckInRequest(), timeout=30)
        assert missing.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_two_names_are_none(server: FleetServer) -> None:
    """A call that names two devices is refused."""
    with open_channel(server.serving.device_address, Credentials(device="cam-1")) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            DeliveryServiceStub(channel).CheckIn(
                delivery.CheckInRequest(), timeout=30, metadata=(("edge-device", "cam-2"),)
            )
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_errors_keep_their_names(server: FleetServer) -> None:
    """A typed error arrives as the same class with its message; facts are text."""
    cases: list[tuple[type[EdgeError], object]] = [
        (NotFoundError, fleet.GetRolloutRequest(rollout="r9")),
    ]
    for error, request in cases:
        with pytest.raises(error, match="no rollout 'r9'"), typed_errors("the distributor"):
            server.operator().GetRollout(request, timeout=30)
    with pytest.raises(FormatError), typed_errors("the distributor"):
        server.operator().ListModels(fleet.ListModelsRequest(model="nameless"), timeout=30)


def test_a_defect_shows_nothing_of_itself(
    server: FleetServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that is not ours is INTERNAL without its text; the log has it."""

    def broken(*_: object) -> None:
        raise LookupError("a secret")

    monkeypatch.setattr("distributor.catalog.list_artifacts", broken)
    with pytest.raises(grpc.RpcError) as failed:
        server.operator().ListModels(fleet.ListModelsRequest(), timeout=30)
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(failed.value.details())
    assert "a secret" in caplog.text


def test_health_and_reflection_need_no_name(server: FleetServer) -> None:
    """Both listeners answer health checks and say which services they have."""
    cases = (
        (server.serving.device_address, "edge.delivery.v1.DeliveryService"),
        (server.serving.operator_address, "edge.fleet.v1.FleetService"),
    )
    for address, name in cases:
        with open_channel(address, Credentials()) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", name):
                answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        # Reflection is a stream both ways, which our channels do not send.
        with grpc.insecure_channel(address) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            ask = reflection_pb2.ServerReflectionRequest(list_services="")
            listed = next(iter(stub.ServerReflectionInfo(iter([ask]), timeout=30)))
            names = {one.name for one in listed.list_services_response.service}
            assert {name, "grpc.health.v1.Health"} <= names


def test_c58_a_cancelled_stream_is_forgotten(server: FleetServer) -> None:
    """A watch that its device cancels is gone from the server: it leaves no waiter."""
    device = server.device("cam-cancel")
    device.check_in()
    watch = device.stub.Watch(delivery.WatchRequest(), timeout=60)
    topic = "device cam-cancel"
    wait_until(lambda: server.serving.wakeups.watched(topic))
    watch.cancel()
    wait_until(lambda: not server.serving.wakeups.watched(topic))
    with pytest.raises(grpc.RpcError):
        list(watch)
