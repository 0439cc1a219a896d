"""The device's side of DeliveryService, against a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from device_agent.fleet_link import Capabilities, EngineCapability, FleetLink, ModelState, Note
from edge_sdk.base import (
    Digest,
    NotFoundError,
    ProofError,
    RefusedError,
    TrustError,
    UnavailableError,
)
from edge_sdk.delta import METHODS
from edge_sdk.protos import delivery_v1_pb2 as wire
from edge_sdk.rpc import FRAME_BYTES
from tests.support.artifacts import make_artifact, noise
from tests.support.delivery_server import DeliveryServer

V1 = make_artifact({"w": noise(300_000)})
OWN = Capabilities(
    delta_versions=(0,),
    delta_methods=tuple(METHODS),
    decoder_memory_bytes=1 << 25,
    engines=(
        EngineCapability(name="onnxruntime", version="1", ir_version_max=10, opset_max={"": 20}),
    ),
    architecture="x86_64",
    memory_bytes=1 << 30,
    accelerators=("npu",),
    agent_version="1",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DeliveryServer]:
    one = DeliveryServer(folder=tmp_path).start()
    yield one
    one.stop()


@pytest.fixture
def link(server: DeliveryServer) -> Iterator[FleetLink]:
    one = FleetLink(server.address, device="kiosk-7")
    yield one
    one.close()


def check_in(link: FleetLink, counter: int = 0) -> bytes | None:
    state = ModelState(
        model="team/digits",
        active=V1.artifact,
        active_version="1.0.0",
        state="committed",
        candidate=None,
        reason="",
    )
    return link.check_in(
        capabilities=OWN,
        held=[V1.artifact],
        models=[state],
        assignment_counter=counter,
        disk_free_bytes=7,
        labels={"site": "oslo"},
    ).assignment


def test_a_check_in(server: DeliveryServer, link: FleetLink) -> None:
    """Everything said arrives; the document comes as bytes, or nothing newer."""
    document = server.assign(V1)
    assert check_in(link) == document
    assert check_in(link, server.counter) is None
    said = server.check_ins[0]
    assert said.labels == {"site": "oslo"}
    assert said.capabilities.engines[0].opset_max == {"": 20}
    assert list(said.held_artifacts) == [V1.artifact.raw]
    assert said.models[0].active_artifact == V1.artifact.raw
    assert said.models[0].candidate_artifact == b""


def test_a_plan_and_its_bytes(server: DeliveryServer, link: FleetLink) -> None:
    """The step names what to fetch; ranges arrive exactly."""
    server.publish(V1)
    (step,) = link.plan(target=V1.artifact, sources=[], capabilities=OWN)
    assert (step.source, step.target) == (None, V1.artifact)
    assert step.target_manifest == V1.document
    whole = b"".join(link.fetch(step.delta, offset=0, length=0))
    assert Digest.of(whole) == step.delta
    assert b"".join(link.fetch(step.delta, offset=1000, length=5)) == whole[1000:1005]


def test_bytes_from_another_place_are_refused(server: DeliveryServer, link: FleetLink) -> None:
    """A peer that sends another range than was asked for is found out."""
    server.publish(V1)
    delta = server.delta(None, V1.artifact)

    def shifted(request: wire.FetchRequest, context: object) -> Iterator[wire.FetchFrame]:
        yield wire.FetchFrame(offset=request.offset + 1, data=b"x")

    server.Fetch = shifted  # type: ignore[assignment, method-assign]
    server.stop()
    server.start()
    with pytest.raises(ProofError):
        list(link.fetch(delta, offset=0, length=0))


def test_reports_are_acknowledged(server: DeliveryServer, link: FleetLink) -> None:
    """Numbers, states, facts arrive once."""
    notes = [
        Note(
            number=number,
            at_ms=5,
            model="team/digits",
            version="1.0.0",
            artifact=V1.artifact,
            rollout="r",
            attempt=1,
            state="assigned",
            reason="",
            message="",
            facts={"a": "b"},
        )
        for number in (1, 2)
    ]
    assert link.report(notes) == 2
    assert link.report(notes) == 2
    assert [event.number for event in server.events] == [1, 2]
    assert server.events[0].facts == {"a": "b"}


def test_a_watch_says_what_changed_and_says_goodbye(
    server: DeliveryServer, link: FleetLink
) -> None:
    """Each change wakes; a server that ends closes the stream."""
    seen: list[int] = []
    woken, ended = threading.Event(), threading.Event()

    def watch() -> None:
        try:
            for event in link.watch(0):
                seen.append(event.assignment_counter)
                woken.set()
        except UnavailableError:
            pass
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    server.assign(V1)
    assert woken.wait(10)
    server.stop()
    assert ended.wait(10)
    assert seen == [1]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.FAILED_PRECONDITION, RefusedError),
    ],
)
def test_errors_are_typed(
    server: DeliveryServer, link: FleetLink, code: grpc.StatusCode, wanted: type[Exception]
) -> None:
    """A status becomes the class that says what to do."""
    server.plan_error = code
    with pytest.raises(wanted):
        link.plan(target=V1.artifact, sources=[], capabilities=OWN)


def test_nobody_there_and_not_this_machine(server: DeliveryServer) -> None:
    """UnavailableError; plaintext to another machine is refused before anything is sent."""
    address = server.address
    server.stop()
    link = FleetLink(address, device="kiosk-7")
    with pytest.raises(UnavailableError):
        check_in(link)
    link.close()
    with pytest.raises(RefusedError):
        FleetLink("203.0.113.5:7443", device="kiosk-7")


def test_a_device_that_is_not_known_is_told_so(server: DeliveryServer) -> None:
    """Identity travels with the connection."""
    link = FleetLink(server.address, device="kiosk-8")
    with pytest.raises(TrustError):
        check_in(link)
    link.close()


def test_frames_that_would_fill_the_memory_are_refused(
    server: DeliveryServer, link: FleetLink
) -> None:
    """The agent lets dozens of frames wait: each may be as large as agreed, and no larger."""
    server.publish(V1)
    delta = server.delta(None, V1.artifact)
    server.frame_bytes = FRAME_BYTES + 1
    with pytest.raises(ProofError):
        list(link.fetch(delta, offset=0, length=0))


def test_a_peer_that_says_nothing_is_given_up(server: DeliveryServer) -> None:
    """It is there and answers pings; without a limit its stream would be waited for for ever."""
    server.publish(V1)
    delta = server.delta(None, V1.artifact)
    server.gate, server.gate_after_bytes = threading.Event(), FRAME_BYTES
    link = FleetLink(server.address, device="kiosk-7", stall_s=2.0)  # busy is not silent
    arrived: list[bytes] = []
    try:
        with pytest.raises(UnavailableError):
            arrived.extend(link.fetch(delta, offset=0, length=0))
    finally:
        server.gate.set()
        link.close()
    assert 0 < sum(map(len, arrived)) < len(V1.files["w"])


def test_a_consumer_may_take_its_time(server: DeliveryServer) -> None:
    """Only waiting for the peer counts: a device with a slow disk is no stall."""
    server.publish(V1)
    delta = server.delta(None, V1.artifact)
    link = FleetLink(server.address, device="kiosk-7", stall_s=1.0)
    stream = link.fetch(delta, offset=0, length=0)
    whole = next(stream)
    threading.Event().wait(2.0)
    whole += b"".join(stream)
    link.close()
    assert len(whole) == server.sent_bytes
