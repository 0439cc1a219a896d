"""The app's end of the fast lane: against the agent's door, and against a peer that lies."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from device_agent.serving.doors import FastLaneDoor, lane_connection
from edge_sdk.base import EdgeError, NotFoundError, UnavailableError, UsageError
from edge_sdk.client import Client, Result, VersionNotActiveError, connect
from edge_sdk.client import lanes as lanes_room
from edge_sdk.client.lane import NotOnLaneError
from edge_sdk.client.lane_request import LaneInput, What
from edge_sdk.client.lanes import Lanes
from edge_sdk.client.model import Model
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
from tests.support import onnx_models
from tests.support.lane_server import (
    SLOT_BYTES,
    give,
    give_good,
    lane_server,
    open_descriptors,
    slab,
)
from tests.support.processes import wait_for
from tests.support.serving_door import Serving, serving

MODEL = "team/linear"
ONES = np.ones((2, 4), np.float32)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    made = serving(
        tmp_path / "models",
        {
            MODEL: onnx_models.linear(2.0),
            "team/text": onnx_models.identity(TensorProto.STRING),
            "team/brain": onnx_models.identity(TensorProto.BFLOAT16),
            "team/short": onnx_models.identity(TensorProto.UINT16),
            "team/bool": onnx_models.identity(TensorProto.BOOL),
            "team/nonzero": onnx_models.nonzero(),
        },
    )
    made.door.open(f"unix:{tmp_path}/inference.sock")
    yield made
    made.lane.close()
    made.door.close()


@pytest.fixture
def on_lane(served: Serving) -> Serving:
    served.lane.open(served.door.address)
    return served


@pytest.fixture
def client(served: Serving) -> Iterator[Client]:
    with connect(inference=served.door.address) as made:
        yield made


def count_lane(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows with each request that the lane carried."""
    carried: list[Any] = []

    def counted(right: Callable[..., Any]) -> Callable[..., Any]:
        def ask(self: Lanes, *given: Any, **named: Any) -> Any:
            result = right(self, *given, **named)
            if result is not None:
                carried.append(result)
            return result

        return ask

    for name in ("repeat", "infer"):
        monkeypatch.setattr(Lanes, name, counted(getattr(Lanes, name)))
    return carried


def test_the_client_takes_the_lane_by_itself(
    on_lane: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked for, and the request goes through shared memory; the answer is its own."""
    carried = count_lane(monkeypatch)
    model = client.model(MODEL)
    first = model.infer({"x": ONES})
    second = model.infer({"x": 3 * ONES})
    assert len(carried) == 2
    assert on_lane.lane.connections == 1
    assert (first.outputs["y"] == 2).all()
    assert (second.outputs["y"] == 6).all()
    first.outputs["y"][:] = 9
    assert (second.outputs["y"] == 6).all()
    assert first.version == "1.0.0"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        (MODEL, ONES),
        (MODEL, np.ones((8, 4), np.float32)[::2]),
        (MODEL, np.ones((0, 4), np.float32)),
        ("team/short", np.array([1, 65535], np.uint16)),
        ("team/brain", np.array([1, 0x3F80], np.uint16)),
        ("team/bool", np.array([True, False])),
        ("team/text", np.array(["a", "grüß", ""])),
        ("team/text", np.array([b"x", b"yz"])),
        (MODEL, np.ones((300_000, 4), np.float32)),
    ],
    ids=["rows", "strided", "empty", "uint16", "bfloat16", "bool", "str", "bytes", "large"],
)
def test_both_ways_answer_alike(
    on_lane: Serving,
    client: Client,
    name: str,
    given: np.ndarray[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values, types and shapes by lane and by gRPC are the same."""
    carried = count_lane(monkeypatch)
    by_lane = client.model(name).infer({"x": given})
    with connect(inference=on_lane.door.address, fast_lane=False) as other:
        by_grpc = other.model(name).infer({"x": given})
    assert len(carried) == 1
    assert by_lane.version == by_grpc.version
    assert set(by_lane.outputs) == set(by_grpc.outputs)
    for output, array in by_grpc.outputs.items():
        assert by_lane.outputs[output].dtype == array.dtype
        assert by_lane.outputs[output].shape == array.shape
        assert (by_lane.outputs[output] == array).all()


def test_what_was_asked_before_is_asked_again_as_it_was(
    on_lane: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first request of its model, outputs, names, shapes and types is made anew; each
    brings its own values, also where a connection knows more than it keeps."""
    anew: list[object] = []
    right = Lanes.infer

    def infer(self: Lanes, what: What, *given: Any, **named: Any) -> Result:
        anew.append(what)
        return right(self, what, *given, **named)

    monkeypatch.setattr(Lanes, "infer", infer)
    model = client.model(MODEL)
    for value in (1, 2, 3):
        for rows in (1, 2, 3):
            x = np.full((rows, 4), value, np.float32)
            got = model.infer({"x": x}, outputs=["y"], priority=value % 3).outputs["y"]
            assert got.shape == x.shape
            assert (got == 2 * value).all()
    assert len(anew) == 3
    for rows in (*range(1, 30), *range(1, 30)):
        assert model.infer({"x": np.ones((rows, 4), np.float32)}).outputs["y"].shape == (rows, 4)
    assert client.lanes is not None
    assert len(client.lanes._idle[0]._requests) <= 16


@pytest.mark.parametrize("given", [[[1, 2, 3, 4]], np.arange(1, 5)[None]], ids=["list", "int64"])
def test_no_request_like_one_before_hides_what_does_not_fit(client: Client, given: Any) -> None:
    """Other types than before are refused as they are over gRPC, behind one that was right."""
    model = client.model(MODEL)
    model.infer({"x": np.ones((1, 4), np.float32)})
    with pytest.raises(UsageError, match="is int64"):
        model.infer({"x": given})
    for wrong in ({"x": ONES, "z": ONES}, {"z": ONES}, {}):
        with pytest.raises(UsageError, match="input"):
            model.infer(wrong)


def test_lists_and_foreign_byte_order_go_through(on_lane: Serving, client: Client) -> None:
    """What is no plain array of this machine is made one, each time."""
    model = client.model(MODEL)
    for value in (1.0, 2.0):
        swapped = np.full((2, 4), value, np.dtype(np.float32).newbyteorder(">"))
        assert (model.infer({"x": swapped}).outputs["y"] == 2 * value).all()
        with pytest.raises(UsageError, match="float64"):
            model.infer({"x": [[value] * 4]})


def test_sixteen_bits_are_asked_about_once(
    on_lane: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uint16 is numbers or bit patterns: the model is asked once, and again when a version that
    sees it otherwise refuses."""
    asked: list[object] = []
    right = Model._metadata

    def metadata(self: Model) -> Any:
        asked.append(self)
        return right(self)

    monkeypatch.setattr(Model, "_metadata", metadata)
    model, x = client.model("team/brain"), np.array([1, 0x3F80], np.uint16)
    for shape in ((2,), (1,), (2,)):
        assert (model.infer({"x": x[: shape[0]]}).outputs["y"] == x[: shape[0]]).all()
    assert len(asked) == 1
    on_lane.serve("team/brain", onnx_models.identity(TensorProto.UINT16), "2.0.0")
    for _ in range(2):
        for shape in ((2,), (1,)):
            assert (model.infer({"x": x[: shape[0]]}).outputs["y"] == x[: shape[0]]).all()
    assert len(asked) == 2
    on_lane.lane.close()
    on_lane.serve("team/brain", onnx_models.identity(TensorProto.BFLOAT16), "3.0.0")
    assert (model.infer({"x": x}).outputs["y"] == x).all()  # by gRPC
    assert len(asked) == 3
    with pytest.raises(UsageError, match="unexpected input"):
        model.infer({"z": x})


def test_several_outputs_and_a_slot_too_small_for_them(on_lane: Serving, client: Client) -> None:
    """Outputs larger than the slot come in a new one, all of them or those asked for."""
    x = np.ones((12_000, 2), np.float32)
    model = client.model("team/nonzero")
    for _ in range(2):
        got = model.infer({"x": x}).outputs
        assert set(got) == {"where", "twice"}
        assert (got["where"][0] == np.arange(12_000).repeat(2)).all()
        assert (got["twice"] == 2).all()
    assert set(model.infer({"x": x}, outputs=["twice"]).outputs) == {"twice"}


@pytest.mark.parametrize(
    ("name", "given", "version", "error"),
    [
        ("team/other", {"x": ONES}, None, NotFoundError),
        (MODEL, {"z": ONES}, None, UsageError),
        (MODEL, {"x": np.ones((2, 5), np.float32)}, None, UsageError),
        (MODEL, {"x": ONES}, "9.9.9", VersionNotActiveError),
        (MODEL, {"x": ONES}, "none", UsageError),
    ],
)
def test_both_ways_fail_alike(
    on_lane: Serving,
    client: Client,
    name: str,
    given: dict[str, Any],
    version: str | None,
    error: type[EdgeError],
) -> None:
    """Class, message and facts of an error are the same by lane and by gRPC."""
    with connect(inference=on_lane.door.address, fast_lane=False) as other:
        seen = []
        for one in (client, other):
            with pytest.raises(error) as refused:
                one.model(name).infer(given, version=version)
            seen.append((type(refused.value), refused.value.message, refused.value.facts))
    assert seen[0] == seen[1]
    assert (client.model(MODEL).infer({"x": ONES}).outputs["y"] == 2).all()


def test_without_a_lane_it_is_grpc(
    served: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket there: the answer comes over gRPC; once the lane is there it is taken."""
    carried = count_lane(monkeypatch)
    model = client.model(MODEL)
    assert (model.infer({"x": ONES}).outputs["y"] == 2).all()
    assert carried == []
    served.lane.open(served.door.address)
    monkeypatch.setattr(client.lanes, "_closed_until_s", 0.0)
    assert (model.infer({"x": ONES}).outputs["y"] == 2).all()
    assert len(carried) == 1


def test_a_full_lane_is_grpc(served: Serving, client: Client) -> None:
    """Where other apps have taken all places, nobody notices."""
    full = FastLaneDoor(served.dispatcher, served.pool, connections_max=0)
    full.open(served.door.address)
    try:
        assert (client.model(MODEL).infer({"x": ONES}).outputs["y"] == 2).all()
    finally:
        full.close()


def test_what_no_slot_can_hold_is_grpc(
    on_lane: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request larger than a slot may be goes over gRPC, the next small one over the lane."""
    monkeypatch.setattr(lane_connection, "SLOT_BYTES_MAX", 1 << 16)
    carried = count_lane(monkeypatch)
    model = client.model(MODEL)
    assert (model.infer({"x": np.ones((30_000, 4), np.float32)}).outputs["y"] == 2).all()
    assert carried == []
    assert (model.infer({"x": ONES}).outputs["y"] == 2).all()
    assert len(carried) == 1


def test_a_request_that_fits_no_packet_is_grpc(on_lane: Serving, client: Client) -> None:
    """Names beyond a packet's size: what gRPC says about them is the answer."""
    inputs = {f"{number}-{'x' * 100}": ONES for number in range(200)}
    with pytest.raises(UsageError, match="unexpected input"):
        client.model(MODEL).infer(inputs)


def test_a_lane_that_began_anew_is_taken_again(
    on_lane: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the agent's end and start, the first request does not see the dead connection."""
    carried = count_lane(monkeypatch)
    model = client.model(MODEL)
    for _ in range(3):
        assert (model.infer({"x": ONES}).outputs["y"] == 2).all()
        assert (model.infer({"x": np.ones((9000, 4), np.float32)}).outputs["y"] == 2).all()
        on_lane.lane.close()
        on_lane.lane.open(on_lane.door.address)
    assert len(carried) == 6


def test_many_threads_have_connections_of_their_own(on_lane: Serving, client: Client) -> None:
    """Eight threads on one client get their own answers, and connections are used again."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(40):
            value = float(number * 100 + turn)
            x = np.full((1 + turn % 3, 4), value, np.float32)
            got = client.model(MODEL).infer({"x": x}).outputs["y"]
            if got.shape != x.shape or not (got == 2 * value).all():
                wrong.append((number, turn, got))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 1 <= on_lane.lane.connections <= 8


def test_a_closed_client_leaves_nothing(on_lane: Serving) -> None:
    """Its connections end and its slots are back."""
    before = open_descriptors()
    with connect(inference=on_lane.door.address) as client:
        client.model(MODEL).infer({"x": ONES})
        used = on_lane.pool.statistics().used_bytes
    wait_for(lambda: on_lane.lane.connections == 0, "its end")
    assert on_lane.pool.statistics().used_bytes == used - (1 << 16)
    wait_for(lambda: open_descriptors() <= before, "its descriptors")


def test_a_deadline_is_kept(on_lane: Serving, client: Client) -> None:
    """No turn in time is UnavailableError, by the app's clock even if the agent says nothing."""
    model = client.model(MODEL)
    model.infer({"x": ONES})
    on_lane.take_all_turns()
    try:
        for deadline_s in (0.2, 0.0):
            began_s = time.monotonic()
            with pytest.raises(UnavailableError):
                model.infer({"x": ONES}, deadline_s=deadline_s)
            assert time.monotonic() - began_s < 10
    finally:
        on_lane.free_all_turns()
    assert (model.infer({"x": ONES}).outputs["y"] == 2).all()


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


def test_a_child_has_connections_of_its_own(on_lane: Serving, client: Client) -> None:
    """After a fork, the parent's connections are left to the parent."""
    client.model(MODEL).infer({"x": ONES})
    assert client.lanes is not None
    (parents,) = client.lanes._idle
    lanes_room._forget_all()  # as if this were the child
    assert client.lanes._idle == []
    assert not parents.usable
    assert (client.model(MODEL).infer({"x": ONES}).outputs["y"] == 2).all()
