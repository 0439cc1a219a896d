"""One client cannot take the distributor from the others, whatever it sends or leaves unread."""

from __future__ import annotations

import importlib
import pkgutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import edge_sdk.protos
from distributor.services import DEVICE_LIMITS, OPERATOR_LIMITS, limits_for
from edge_sdk.base import BusyError, FormatError, ResourceError, UnavailableError
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.rpc import (
    OTHER,
    Credentials,
    MethodLimits,
    Rate,
    open_channel,
    retry_after_s,
    typed_errors,
)
from tests.support.fleet_server import wait_until
from tests.support.limit_tables import DOCUMENT, filled, tables
from tests.support.limited_listener import Small, SmallClient, limited_listener

PEER = "the distributor"
ON_DEVICES = frozenset({"edge.agent.v1.AgentService"})  # the agent has tables of its own


def test_every_method_has_its_row() -> None:
    """A method that is added to a service of the distributor is given limits, or this fails."""
    methods = set()
    for module in pkgutil.iter_modules(edge_sdk.protos.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"edge_sdk.protos.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                if service.full_name not in ON_DEVICES:
                    methods |= {f"/{service.full_name}/{one.name}" for one in service.methods}
    limited = {*DEVICE_LIMITS, *OPERATOR_LIMITS, *limits_for(None).table}
    missing = methods - limited
    assert not missing, f"give them limits in distributor/services/limits.py: {sorted(missing)}"
    assert limited <= methods


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[str, Small]]:
    table = {
        "Ask": MethodLimits(message_bytes=10_000, metadata_bytes=4000),
        "Watch": MethodLimits(each=4, all=6),
        "Pour": MethodLimits(each=3, stall_s=0.4),
        "Send": MethodLimits(message_bytes=100_000, stall_s=0.4, pace_bytes=1000),
    }
    with limited_listener(table) as one:
        yield one


Client = Callable[[str], SmallClient]


@pytest.fixture
def client(listener: tuple[str, Small]) -> Iterator[Client]:
    with ExitStack() as stack:

        def connect(device: str) -> SmallClient:
            credentials = Credentials(device=device)
            return SmallClient(stack.enter_context(open_channel(listener[0], credentials)))

        yield connect


def test_a_message_above_the_methods_size(listener: tuple[str, Small], client: Client) -> None:
    """It is refused without being parsed or answered; one of exactly that size is answered."""
    device = client("cam-1")
    before = listener[1].asked
    with pytest.raises(ResourceError, match="10001 bytes; 10000"), typed_errors(PEER):
        device.ask(b"\xff" * 10_001, timeout=30)
    assert listener[1].asked == before
    largest = delivery.PlanRequest(source_artifacts=[bytes(9995)])
    assert largest.ByteSize() <= 10_000
    assert device.ask(largest, timeout=30).whole_bytes == 7


def test_a_message_above_every_methods_size(client: Client) -> None:
    """gRPC itself refuses it, before it lies in memory; the connection goes on."""
    device = client("cam-1")
    with pytest.raises(grpc.RpcError) as refused:
        device.ask(bytes(8 << 20), timeout=30)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()
    assert device.ask(delivery.PlanRequest(), timeout=30).whole_bytes == 7


def test_what_is_no_message(client: Client) -> None:
    """Bytes that are no message are the caller's mistake, and say so."""
    with pytest.raises(FormatError, match="none of this method"), typed_errors(PEER):
        client("cam-1").ask(b"\xff\xff\xff", timeout=30)


def test_metadata_above_the_methods_size(client: Client) -> None:
    """Metadata is refused by its size: above the method's limit by name, above all by gRPC."""
    device = client("cam-1")
    with pytest.raises(ResourceError, match="bytes of metadata"), typed_errors(PEER):
        device.ask(delivery.PlanRequest(), timeout=30, metadata=(("x-much", "y" * 4000),))
    many = tuple((f"x-{number}", "y" * 200) for number in range(200))
    with pytest.raises(grpc.RpcError) as refused:
        device.ask(delivery.PlanRequest(), timeout=30, metadata=many)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert device.ask(delivery.PlanRequest(), timeout=30).whole_bytes == 7


def test_a_thousand_watches_of_one_device(listener: tuple[str, Small], client: Client) -> None:
    """Four are held, the others are told to come back; another device's watch has its place."""
    greedy = client("greedy")
    watches = [greedy.watch(delivery.WatchRequest()) for _ in range(1000)]
    said: list[str] = []
    for watch in watches[4:]:
        try:
            with typed_errors(PEER):
                next(iter(watch))
            said.append("held")
        except BusyError as error:
            assert retry_after_s(error) > 0
            said.append("busy")
    assert said.count("held") <= 4
    assert listener[1].watching == 4
    other = client("other").watch(delivery.WatchRequest())
    assert next(iter(other)).assignment_counter == 1
    for watch in (*watches, other):
        watch.cancel()
    wait_until(lambda: not listener[1].watching)
    assert next(iter(client("greedy").watch(delivery.WatchRequest()))).assignment_counter == 1


def test_a_reader_that_stops(listener: tuple[str, Small], client: Client) -> None:
    """What the server held for it is given free, and it finds out when it reads on."""
    before = len(listener[1].closed)
    stream = client("slow").pour(delivery.FetchRequest(), timeout=60)
    next(iter(stream))
    wait_until(lambda: len(listener[1].closed) > before)
    with pytest.raises(UnavailableError, match="nothing was read"), typed_errors(PEER):
        for _ in stream:
            pass


def test_readers_that_stop_stay_counted(listener: tuple[str, Small], client: Client) -> None:
    """Streams that were given up, and whose bytes still lie here, count until they are gone."""
    before = len(listener[1].closed)
    device = client("hoarder")
    streams = [device.pour(delivery.FetchRequest(), timeout=60) for _ in range(3)]
    for stream in streams:
        next(iter(stream))
    wait_until(lambda: len(listener[1].closed) >= before + 3)
    with pytest.raises(BusyError), typed_errors(PEER):
        next(iter(device.pour(delivery.FetchRequest(), timeout=60)))
    for stream in streams:
        stream.cancel()

    def again() -> bool:
        stream = device.pour(delivery.FetchRequest(), timeout=60)
        try:
            next(iter(stream))
        except grpc.RpcError:
            return False
        finally:
            stream.cancel()
        return True

    wait_until(again)


def _frame(size_bytes: int) -> fleet.PublishRequest:
    return fleet.PublishRequest(frame=fleet.FileFrame(data=bytes(size_bytes)))


def test_a_sender_that_stops(listener: tuple[str, Small], client: Client) -> None:
    """A stream that brings nothing more is ended, and its handler with it."""
    before = len(listener[1].closed)
    over = threading.Event()

    def requests() -> Iterator[fleet.PublishRequest]:
        yield _frame(5000)
        over.wait(30)

    with pytest.raises(UnavailableError, match="too little"), typed_errors(PEER):
        client("cam-1").send(requests(), timeout=30)
    over.set()
    wait_until(lambda: len(listener[1].closed) > before)


def test_a_sender_that_drips(client: Client) -> None:
    """A byte now and then is not enough; a slow sender that keeps the pace comes through."""
    over = threading.Event()

    def dripping(size_bytes: int, count: int) -> Iterator[fleet.PublishRequest]:
        for _ in range(count):
            yield _frame(size_bytes)
            over.wait(0.05)

    with pytest.raises(UnavailableError, match="too little"), typed_errors(PEER):
        client("cam-1").send(dripping(1, 200), timeout=30)
    answer = client("cam-2").send(dripping(500, 16), timeout=30)
    assert answer.whole_bytes == 8000


def test_a_large_message_within_a_stream(client: Client) -> None:
    """Each message of a stream has the limit, not only the first."""
    parts = [_frame(10), _frame(200_000), _frame(10)]
    with pytest.raises(ResourceError, match="100000 are allowed"), typed_errors(PEER):
        client("cam-1").send(iter(parts), timeout=30)


def test_calls_that_need_no_name_are_counted_too(listener: tuple[str, Small]) -> None:
    """Health and reflection: by the machine that asks, and refused in the same words."""
    with grpc.insecure_channel(listener[0]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(OTHER.each + 1)]
        asked = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        with pytest.raises(BusyError), typed_errors(PEER):
            for watch in watches:
                next(iter(watch))
        over = threading.Event()

        def silent() -> Iterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            over.wait(30)

        streams = [asked(silent()) for _ in range(OTHER.each + 1)]
        with pytest.raises(BusyError), typed_errors(PEER):
            for stream in streams:
                assert next(iter(stream)).list_services_response.service
        over.set()
        for call in (*watches, *streams):
            call.cancel()
        large = health_pb2.HealthCheckRequest(service="x" * (OTHER.message_bytes + 1))
        with pytest.raises(ResourceError), typed_errors(PEER):
            health.Check(large, timeout=30)


def test_a_flood_by_one_device() -> None:
    """Above its rate a device is refused, slowly; beside it another is answered every time."""
    table = {"Ask": MethodLimits()}
    rate = Rate(burst=50, per_s=20)
    with limited_listener(table, rate=rate, refused_wait_s=0.2) as (address, small):
        began_s = time.monotonic()
        over = threading.Event()
        refused: list[float] = []

        def flood() -> None:
            with open_channel(address, Credentials(device="greedy")) as channel:
                ask = SmallClient(channel).ask
                while not over.is_set():
                    try:
                        with typed_errors(PEER):
                            ask(delivery.PlanRequest(), timeout=30)
                    except BusyError as error:
                        refused.append(retry_after_s(error))

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(refused) > 8)
        took_s: list[float] = []
        with open_channel(address, Credentials(device="other")) as channel:
            ask = SmallClient(channel).ask
            for _ in range(40):
                start_s = time.monotonic()
                assert ask(delivery.PlanRequest(), timeout=30).whole_bytes == 7
                took_s.append(time.monotonic() - start_s)
        passed, lasted_s = small.asked - 40, time.monotonic() - began_s
        over.set()
        for thread in threads:
            thread.join(30)
    assert passed <= rate.burst + rate.per_s * lasted_s + 1
    assert all(wait_s > 0 for wait_s in refused)
    assert sorted(took_s)[38] < 1.0


def test_the_document_shows_the_tables() -> None:
    """docs/limits.md is as ``python -m tests.support.limit_tables`` writes it."""
    text = DOCUMENT.read_text("utf-8")
    assert filled(text) == text
    assert all(f"<!-- limits: {name} -->" in text for name in tables())
