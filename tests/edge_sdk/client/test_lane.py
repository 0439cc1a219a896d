"""One connection, against a peer that lies or is silent."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import EdgeError, UnavailableError
from edge_sdk.client import Result
from edge_sdk.client.lane import NotOnLaneError
from edge_sdk.client.lane_request import LaneInput
from edge_sdk.client.lanes import Lanes
from edge_sdk.fastlane import (
    PACKET_BYTES_MAX,
    Answer,
    Elsewhere,
    Failure,
    Infer,
    Packet,
    Place,
    SlotGiven,
    decode,
    encode,
)
from tests.support.lane_server import SLOT_BYTES, give, give_good, lane_server, slab

MODEL = "team/linear"
ONES = np.ones((2, 4), np.float32)


def silent(peer: socket.socket) -> None:
    give_good(peer)
    peer.recv(PACKET_BYTES_MAX)
    peer.recv(PACKET_BYTES_MAX)  # until the app goes


def test_an_agent_that_is_silent_is_left(tmp_path: Path, lanes: Lanes) -> None:
    """After the deadline the connection is closed, so that a late answer is nobody's."""
    with lane_server(tmp_path / "lane", silent):
        with pytest.raises(UnavailableError, match="in time"):
            ask(lanes, deadline_s=0.2)
        assert lanes._idle == []


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[Lanes]:
    made = Lanes(tmp_path / "lane")
    yield made
    made.close()


def ask(lanes: Lanes, *, deadline_s: float = 10.0) -> Result:
    given = [LaneInput(name="x", dtype="float32", array=ONES)]
    return lanes.infer((MODEL, "", ()), given, deadline_s=deadline_s)


def ask_again(lanes: Lanes) -> Result | None:
    return lanes.repeat((MODEL, "", ()), {"x": ONES}, 10.0, 0, None)


def with_no_descriptor(peer: socket.socket) -> None:
    peer.recv(PACKET_BYTES_MAX)
    peer.send(encode(SlotGiven(slot_bytes=SLOT_BYTES)))


def with_two_descriptors(peer: socket.socket) -> None:
    made = slab()
    give(peer, [made.descriptor, made.descriptor])


def with_another_size(peer: socket.socket) -> None:
    give(peer, [slab().descriptor], size=2 * SLOT_BYTES)


def with_unsealed_memory(peer: socket.socket) -> None:
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, SLOT_BYTES)
    give(peer, [descriptor])
    os.close(descriptor)


def with_a_pipe(peer: socket.socket) -> None:
    ends = os.pipe()
    give(peer, [ends[0]])
    for end in ends:
        os.close(end)


def with_noise(peer: socket.socket) -> None:
    peer.recv(PACKET_BYTES_MAX)
    peer.send(b"\xde\xad\xbe\xef")


def with_nothing(peer: socket.socket) -> None:
    peer.recv(PACKET_BYTES_MAX)


@pytest.mark.parametrize(
    "serve",
    [
        *(with_no_descriptor, with_two_descriptors, with_another_size, with_unsealed_memory),
        *(with_a_pipe, with_noise, with_nothing),
    ],
)
def test_a_slot_that_is_none_is_not_touched(
    tmp_path: Path, lanes: Lanes, serve: Callable[[socket.socket], None]
) -> None:
    """What is not one sealed memory of the announced size is closed, and gRPC is used."""
    with lane_server(tmp_path / "lane", serve):
        with pytest.raises(NotOnLaneError):
            ask(lanes)
        with pytest.raises(NotOnLaneError, match="a moment ago"):
            ask(lanes)
    assert lanes._idle == []


def answered(make: Callable[[Infer], Packet | bytes]) -> Callable[[socket.socket], None]:
    """A lane that gives a good slot and answers each request with what ``make`` makes of it."""

    def serve(peer: socket.socket) -> None:
        give_good(peer)
        while data := peer.recv(PACKET_BYTES_MAX):
            request = decode(data)
            if isinstance(request, Infer):
                made = make(request)
                peer.send(made if isinstance(made, bytes) else encode(made))

    return serve


def outside(request: Infer) -> Packet:
    place = Place(name="y", dtype="uint8", shape=(64,), offset=SLOT_BYTES, size_bytes=64)
    return Answer(version="1.0.0", outputs=(place,), request=request.request)


@pytest.mark.parametrize(
    "make",
    [
        outside,
        lambda request: Answer(version="1.0.0", outputs=(), request=request.request + 1),
        lambda request: SlotGiven(slot_bytes=1, request=request.request),
        lambda request: b"\xde\xad\xbe\xef",
        lambda request: Answer(
            version="1.0.0", outputs=(), new_slot_bytes=1 << 20, request=request.request
        ),
    ],
    ids=["outside", "another number", "another kind", "noise", "no new slot"],
)
def test_an_answer_that_is_none_ends_the_connection(
    tmp_path: Path, lanes: Lanes, make: Callable[[Infer], Packet | bytes]
) -> None:
    """A wrong answer is UnavailableError, and its connection is not used again."""
    with lane_server(tmp_path / "lane", answered(make)):
        with pytest.raises(UnavailableError):
            ask(lanes, deadline_s=1.0)
        assert lanes._idle == []


def test_the_same_answer_to_another_request_is_refused(tmp_path: Path, lanes: Lanes) -> None:
    """An answer that is known byte for byte must still be this request's."""

    def always_one(request: Infer) -> Packet:
        return Answer(version="1.0.0", outputs=(), request=1)

    with lane_server(tmp_path / "lane", answered(always_one)):
        assert ask(lanes).version == "1.0.0"
        with pytest.raises(UnavailableError, match="another request"):
            ask_again(lanes)


def test_an_error_that_is_not_known_here_is_its_family(tmp_path: Path, lanes: Lanes) -> None:
    """An agent of a later release may raise what this client has no class for."""

    def fail(request: Infer) -> Packet:
        status = "RESOURCE_EXHAUSTED" if request.request == 1 else "OUT_OF_THIS_WORLD"
        return Failure(
            reason="NewError", status=status, message="m", facts={"a": "1"}, request=request.request
        )

    with lane_server(tmp_path / "lane", answered(fail)):
        for family in ("ResourceError", "EdgeError"):
            with pytest.raises(EdgeError) as refused:
                ask(lanes)
            assert (type(refused.value).__name__, refused.value.facts) == (family, {"a": "1"})
        assert len(lanes._idle) == 1


def test_sent_elsewhere_is_grpc(tmp_path: Path, lanes: Lanes) -> None:
    """An agent may send any single request elsewhere."""
    serve = answered(lambda request: Elsewhere(message="busy", request=request.request))
    with lane_server(tmp_path / "lane", serve), pytest.raises(NotOnLaneError, match="busy"):
        ask(lanes)


def test_an_agent_that_ends_in_the_middle_is_said(tmp_path: Path, lanes: Lanes) -> None:
    """A request that was sent and not answered is UnavailableError: it may have been run."""

    def end(peer: socket.socket) -> None:
        give_good(peer)
        peer.recv(PACKET_BYTES_MAX)

    with (
        lane_server(tmp_path / "lane", end),
        pytest.raises(UnavailableError, match="ended before it answered"),
    ):
        ask(lanes)
