"""One connection on the fast lane, by a peer that sends what it wants."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from device_agent.serving.cache import ResponseCache
from device_agent.serving.doors import lane_connection, lane_plan
from device_agent.serving.doors.lane_connection import LaneSlots
from device_agent.serving.repeated import Repeated
from edge_sdk.base import ResourceError
from edge_sdk.client.wire_tensors import encode_texts
from edge_sdk.fastlane import (
    PACKET_BYTES_MAX,
    VERSION,
    Answer,
    Elsewhere,
    Failure,
    Hello,
    Infer,
    Place,
    Resize,
    SlotGiven,
    Take,
    encode,
)
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models
from tests.support.processes import wait_for
from tests.support.raw_lane import RawLane, place, raw_lane, request
from tests.support.serving_door import Serving, listening

MODEL = "team/linear"
ONES = np.ones((2, 4), np.float32)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with listening(
        tmp_path,
        {
            MODEL: onnx_models.linear(2.0),
            "team/text": onnx_models.identity(TensorProto.STRING),
            "team/bool": onnx_models.identity(TensorProto.BOOL),
            "team/nonzero": onnx_models.nonzero(),
        },
    ) as made:
        yield made


@pytest.fixture
def lane(served: Serving) -> Iterator[RawLane]:
    with raw_lane(served.lane.path) as made:
        made.greet()
        yield made


def works(served: Serving) -> None:
    """A new app is served as if nothing had happened."""
    with raw_lane(served.lane.path) as lane:
        lane.greet()
        lane.write(ONES)
        answer = lane.ask(request(ONES, MODEL))
        assert isinstance(answer, Answer)
        assert (lane.read(answer.outputs[0]) == 2).all()


def test_an_answer_lies_in_the_slot(served: Serving, lane: RawLane) -> None:
    """Number, version, name, type and shape are said; the numbers are those of this request."""
    for number, value in enumerate((1.0, 2.0, 3.0)):
        lane.write(ONES * value)
        answer = lane.ask(request(ONES, MODEL, request=number))
        assert answer == Answer(
            version="1.0.0",
            outputs=(
                Place(name="y", dtype="float32", shape=(2, 4), offset=0, size_bytes=ONES.nbytes),
            ),
            request=number,
        )
        assert (lane.read(answer.outputs[0]) == 2 * value).all()
    served_now = served.table.find(MODEL, "").statistics.snapshot()
    assert (served_now.requests, served_now.count["success"]) == (3, 3)


def test_a_repeated_request_is_held_against_its_head(served: Serving, lane: RawLane) -> None:
    """One that differs from the last in its reserved bytes alone is still refused."""
    lane.write(ONES)
    whole = request(ONES, MODEL)
    assert isinstance(lane.ask(whole), Answer)
    assert isinstance(lane.ask(whole), Answer)
    wrong = bytearray(encode(whole))
    wrong[3] = 1
    assert isinstance(lane.ask(bytes(wrong)), Failure)
    assert lane.receive() is None


def test_a_switch_between_two_requests_is_seen(served: Serving, lane: RawLane) -> None:
    """The same packet again is answered by whoever is active then, also with another shape."""
    lane.write(ONES)
    for scale, version in ((3.0, "2.0.0"), (5.0, "3.0.0")):
        served.serve(MODEL, onnx_models.linear(scale), version)
        lane.write(ONES)
        answer = lane.ask(request(ONES, MODEL))
        assert isinstance(answer, Answer)
        assert answer.version == version
        assert (lane.read(answer.outputs[0]) == scale).all()


def test_a_larger_answer_comes_in_a_new_slot(served: Serving, lane: RawLane) -> None:
    """Outputs that do not fit are kept for Take, and the new slot serves from then on."""
    big = np.ones((12000, 2), np.float32)
    lane.ask(Resize(slot_bytes=big.nbytes))
    lane.write(big)
    assert lane.slot is not None
    before_bytes = len(lane.slot)
    answer = lane.ask(Infer(model="team/nonzero", version="", inputs=(place(big),), request=5))
    assert isinstance(answer, Answer)
    assert answer.new_slot_bytes > before_bytes
    given = lane.ask(Take(request=6))
    assert given == SlotGiven(slot_bytes=answer.new_slot_bytes, request=6)
    (where,) = (one for one in answer.outputs if one.name == "where")
    assert (lane.read(where)[0] == np.arange(12000).repeat(2)).all()
    lane.write(ONES)
    assert isinstance(lane.ask(request(ONES, MODEL)), Answer)


def test_a_cache_answers_on_the_lane(served: Serving, lane: RawLane) -> None:
    """A model with a response cache: what was asked before is not run again, through this door
    too, and another content of the same packet is another request."""
    generation = served.load("team/kept", onnx_models.linear(3.0))
    generation.cache = ResponseCache(1 << 20)
    served.table.switch(generation)
    for value in (1.0, 2.0, 1.0, 2.0):
        lane.write(ONES * value)
        answer = lane.ask(request(ONES, "team/kept"))
        assert isinstance(answer, Answer)
        assert (lane.read(answer.outputs[0]) == 3 * value).all()
    assert generation.statistics.snapshot().count["compute_infer"] == 2


def test_text_goes_through(served: Serving, lane: RawLane) -> None:
    """BYTES as in the Open Inference Protocol, read again for each request."""
    for texts in (["a", "grüß"], ["b", "hell"]):
        data = np.frombuffer(encode_texts(texts), np.uint8)
        lane.write(data)
        given = Place(name="x", dtype="string", shape=(2,), offset=0, size_bytes=data.nbytes)
        answer = lane.ask(Infer(model="team/text", version="", inputs=(given,)))
        assert isinstance(answer, Answer)
        assert lane.slot is not None
        assert lane.slot[: answer.outputs[0].size_bytes] == data.tobytes()


def test_any_byte_is_a_bool(served: Serving, lane: RawLane) -> None:
    """What is not 0 reaches the engine as 1."""
    lane.write(np.array([0, 1, 2, 255], np.uint8))
    given = Place(name="x", dtype="bool", shape=(4,), offset=0, size_bytes=4)
    answer = lane.ask(Infer(model="team/bool", version="", inputs=(given,)))
    assert isinstance(answer, Answer)
    assert lane.slot is not None
    assert lane.slot[:4] == b"\0\1\1\1"


@pytest.mark.parametrize(
    ("wrong", "reason", "status"),
    [
        ({"model": "team/other"}, "NotFoundError", "NOT_FOUND"),
        ({"version": "9.9.9"}, "VersionNotActiveError", "NOT_FOUND"),
        ({"version": "no version"}, "UsageError", "INVALID_ARGUMENT"),
        ({"outputs": ("z",)}, "UsageError", "INVALID_ARGUMENT"),
        ({"inputs": ()}, "UsageError", "INVALID_ARGUMENT"),
        ({"inputs": (place(ONES), place(ONES))}, "UsageError", "INVALID_ARGUMENT"),
        ({"inputs": (place(ONES, "z"),)}, "UsageError", "INVALID_ARGUMENT"),
        ({"inputs": (place(np.ones((2, 5), np.float32)),)}, "UsageError", "INVALID_ARGUMENT"),
        ({"inputs": (place(np.ones((2, 4))),)}, "UsageError", "INVALID_ARGUMENT"),
        ({"inputs": (place(ONES, offset=1 << 40),)}, "UsageError", "INVALID_ARGUMENT"),
        ({"inputs": (place(ONES, offset=65536 - 64 + 64),)}, "UsageError", "INVALID_ARGUMENT"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_errors_are_those_of_the_other_door(
    served: Serving, lane: RawLane, wrong: dict[str, Any], reason: str, status: str
) -> None:
    """The same classes and statuses as over gRPC, and the connection lives on."""
    lane.write(ONES)
    failure = lane.ask(request(ONES, **{"model": MODEL, **wrong}))
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.status, failure.request) == (reason, status, 7)
    assert isinstance(lane.ask(request(ONES, MODEL)), Answer)


def test_texts_that_are_none_are_refused(served: Serving, lane: RawLane) -> None:
    """Cut off, or not UTF-8."""
    for data, message in ((b"\xff\0\0\0", "cut off"), (b"\1\0\0\0\xff", "UTF-8")):
        lane.write(np.frombuffer(data, np.uint8))
        given = Place(name="x", dtype="string", shape=(1,), offset=0, size_bytes=len(data))
        failure = lane.ask(Infer(model="team/text", version="", inputs=(given,)))
        assert isinstance(failure, Failure)
        assert message in failure.message


def test_waiting_has_an_end(served: Serving, lane: RawLane) -> None:
    """A request that gets no turn in its time is UNAVAILABLE, as through the other door."""
    served.take_all_turns()
    try:
        failure = lane.ask(request(ONES, MODEL, timeout_us=20_000))
        assert isinstance(failure, Failure)
        assert (failure.reason, failure.status) == ("UnavailableError", "UNAVAILABLE")
    finally:
        served.free_all_turns()
    assert isinstance(lane.ask(request(ONES, MODEL)), Answer)


def test_a_long_message_is_cut(served: Serving, lane: RawLane) -> None:
    """An error whose message and facts do not fit a packet arrives all the same."""
    name = "é" * 7000
    failure = lane.ask(request(ONES, name))
    assert isinstance(failure, Failure)
    assert failure.reason == "NotFoundError"
    assert failure.message.startswith("Request for unknown model")


def test_a_defect_shows_nothing_of_itself(
    served: Serving,
    lane: RawLane,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An error that nobody raised on purpose is INTERNAL for the app and told to the operator."""
    with monkeypatch.context() as patched:
        patched.setattr(lane_plan, "check_version", lambda version: 1 // 0)
        failure = lane.ask(request(ONES, MODEL))
    assert isinstance(failure, Failure)
    assert (failure.status, failure.request) == ("INTERNAL", 7)
    assert "division" not in failure.message
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert isinstance(lane.ask(request(ONES, MODEL)), Answer)


HEAD = b"\3\0\0\0\1\0\0\0"
GARBAGE = {
    "noise": b"\xde\xad\xbe\xef" * 10,
    "one byte": b"\3",
    "half a request": encode(request(ONES, MODEL))[:40],
    "a request and more": encode(request(ONES, MODEL)) + b"\0",
    "head alone": HEAD,
    "head, time and sequence alone": HEAD + bytes(16),
    "too long": bytes(PACKET_BYTES_MAX + 1),
    "much too long": HEAD + bytes(3 * PACKET_BYTES_MAX),
    "what only an agent sends": encode(SlotGiven(slot_bytes=4096)),
    "hello again": encode(Hello(version=VERSION, slot_bytes=4096)),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_who_breaks_the_protocol_is_shown_out(served: Serving, lane: RawLane, data: bytes) -> None:
    """It hears why, its connection ends, its slot comes back, and others are served."""
    failure = lane.ask(data)
    assert isinstance(failure, Failure)
    assert failure.reason == "FormatError"
    assert lane.receive() is None
    wait_for(lambda: served.lane.connections == 0, "its end")
    works(served)


NO_GREETING = {
    **{name: data for name, data in GARBAGE.items() if name != "hello again"},
    "take": encode(Take()),
    "a whole request": encode(request(ONES, MODEL)),
}


@pytest.mark.parametrize("data", NO_GREETING.values(), ids=NO_GREETING)
def test_the_first_packet_is_hello_or_the_last(served: Serving, data: bytes) -> None:
    """Anything else ends the connection before it has a slot."""
    with raw_lane(served.lane.path) as lane:
        assert isinstance(lane.ask(data), Failure)
        assert lane.receive() is None
    works(served)


def test_another_version_is_sent_elsewhere(served: Serving) -> None:
    """An app of a later release uses gRPC with this agent."""
    with raw_lane(served.lane.path) as lane:
        assert isinstance(lane.ask(Hello(version=VERSION + 1, slot_bytes=1)), Elsewhere)
        assert lane.receive() is None


def test_who_says_nothing_does_not_keep_a_place(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without its first packet ends after a while; one with it may be silent."""
    monkeypatch.setattr(lane_connection, "_HELLO_S", 1)
    with raw_lane(served.lane.path) as silent, raw_lane(served.lane.path) as greeted:
        greeted.greet()
        assert silent.receive() is None
        wait_for(lambda: served.lane.connections == 1, "the silent one's end")
        greeted.write(ONES)
        assert isinstance(greeted.ask(request(ONES, MODEL)), Answer)


def test_slots_are_limited(served: Serving, lane: RawLane) -> None:
    """A slot beyond the limits is Elsewhere, and another can be asked for after that."""
    for size in ((64 << 20) + 1, 1 << 62):
        assert isinstance(lane.ask(Resize(slot_bytes=size, request=3)), Elsewhere)
    assert isinstance(lane.ask(request(ONES, MODEL)), Failure)  # the slot was given back
    assert isinstance(lane.ask(Take()), Failure)
    assert lane.receive() is None
    works(served)


def test_all_slots_together_are_limited() -> None:
    """Apps share one limit; what one gives back another gets; a failure counts nothing."""
    slots = LaneSlots(TensorPool(budget_bytes=5 << 16), bytes_max=3 << 16)
    first, second = slots.take(1), slots.take(2 << 16)
    with pytest.raises(ResourceError, match="together"):
        slots.take(1)
    slots.give_back(second)
    again = slots.take(1 << 16)
    for slab in (first, again):
        slots.give_back(slab)
    tight = LaneSlots(TensorPool(budget_bytes=1 << 16), bytes_max=1 << 30)
    for _ in range(3):
        with pytest.raises(ResourceError):
            tight.take(2 << 16)
    tight.give_back(tight.take(1 << 16))


def test_an_answer_without_room_is_a_resource_error(
    served: Serving, lane: RawLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no larger slot can be had for the outputs, the app hears it and keeps its own."""
    big = np.ones((12000, 2), np.float32)
    lane.ask(Resize(slot_bytes=big.nbytes))
    lane.write(big)
    monkeypatch.setattr(lane_connection, "SLOT_BYTES_MAX", 1 << 17)
    failure = lane.ask(Infer(model="team/nonzero", version="", inputs=(place(big),)))
    assert isinstance(failure, Failure)
    assert failure.status == "RESOURCE_EXHAUSTED"
    lane.write(ONES)
    assert isinstance(lane.ask(request(ONES, MODEL)), Answer)


def test_descriptors_from_a_peer_are_not_taken(served: Serving, lane: RawLane) -> None:
    """Files that come along with a request are closed by the kernel, unseen."""
    before = len([*Path("/proc/self/fd").iterdir()])
    reading, writing = os.pipe()
    lane.write(ONES)
    for _ in range(20):
        socket.send_fds(lane.socket, [encode(request(ONES, MODEL))], [reading, writing])
        assert isinstance(lane.receive(), Answer)
    os.close(writing)
    assert os.read(reading, 1) == b""  # nobody else holds the other end
    os.close(reading)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_slot_cannot_be_cut_off(served: Serving) -> None:
    """The app cannot make the memory shorter under the agent's hands."""
    with raw_lane(served.lane.path) as lane:
        lane.send(Hello(version=VERSION, slot_bytes=1))
        _, (descriptor,), _, _ = socket.recv_fds(lane.socket, 100, 1)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)
    works(served)


def test_a_slot_that_changes_meanwhile_harms_nobody(served: Serving, lane: RawLane) -> None:
    """With another thread writing all the time, answers are sane and the engine's input is fixed.

    Each answer of ``where`` must fit the values that the same run counted: an engine that saw
    its input change would write beyond what it had reserved.
    """
    array = np.ones((128, 2), np.float32)
    over = threading.Event()

    def scribble() -> None:
        assert lane.slot is not None
        while not over.is_set():
            lane.slot[: array.nbytes] = bytes(array.nbytes)
            lane.slot[: array.nbytes] = array.tobytes()

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        for _ in range(300):
            answer = lane.ask(Infer(model="team/nonzero", version="", inputs=(place(array),)))
            assert isinstance(answer, Answer)
            (where,) = (one for one in answer.outputs if one.name == "where")
            assert where.shape[0] == 2
            assert where.shape[1] <= 256
    finally:
        over.set()
        writer.join()
    works(served)


def test_one_app_never_sees_anothers_data(served: Serving) -> None:
    """A slot is fresh for each connection, and writing to an old one changes nothing."""
    secret = np.full((2, 4), 1234.5, np.float32)
    with raw_lane(served.lane.path) as first:
        first.greet()
        first.write(secret)
        first.ask(request(secret, MODEL))
        old = first.slot
    wait_for(lambda: served.lane.connections == 0, "the first one's end")
    with raw_lane(served.lane.path) as second:
        second.greet()
        assert second.slot is not None
        assert bytes(second.slot) == bytes(len(second.slot))
        assert old is not None
        old[:] = b"x" * len(old)
        assert bytes(second.slot) == bytes(len(second.slot))


def flood(lane: RawLane, packet: bytes) -> None:
    """Sends without reading until the other end has had enough."""
    for _ in range(100_000):
        with contextlib.suppress(TimeoutError):
            lane.send(packet)


def test_who_does_not_read_is_not_waited_for(served: Serving) -> None:
    """An app that only sends fills its own socket and is let go; others are served."""
    with raw_lane(served.lane.path) as lane:
        lane.greet()
        lane.socket.settimeout(0.5)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood(lane, encode(request(ONES, "team/unknown")))
        wait_for(lambda: served.lane.connections == 0, "its end")
    works(served)


def test_a_peer_that_goes_in_the_middle_leaves_nothing(served: Serving) -> None:
    """Apps that send a request and go: their slots are back and their turns too."""
    before = served.pool.statistics().used_bytes
    for _ in range(20):
        with raw_lane(served.lane.path) as lane:
            lane.greet()
            lane.send(request(ONES, MODEL))
    wait_for(lambda: served.lane.connections == 0, "their end")
    works(served)
    wait_for(lambda: served.lane.connections == 0, "the last one's end")
    assert served.pool.statistics().used_bytes <= before + (1 << 16)


def test_no_rows_need_no_slot(lane: RawLane) -> None:
    """Where a larger slot was refused there is none, and tensors of no bytes still have room."""
    assert isinstance(lane.ask(Resize(slot_bytes=1 << 40, request=1)), Elsewhere)
    answer = lane.ask(request(ONES[:0], MODEL))
    assert isinstance(answer, Answer)
    assert [one.shape for one in answer.outputs] == [(0, 4)]
    assert isinstance(lane.ask(request(ONES, MODEL)), Failure)


def test_a_repeated_request_is_repeated_again_after_a_comparison(
    served: Serving, lane: RawLane
) -> None:
    """A candidate takes the shorter way from the app while it is compared, and no longer; one
    of another model takes it from nobody."""
    (connection,) = served.lane._connections
    generation = served.table.find(MODEL, "")

    def is_repeated() -> bool:
        for _ in range(3):
            lane.write(ONES)
            assert isinstance(lane.ask(request(ONES, MODEL)), Answer)
        return connection._plan is not None and connection._plan.repeated is not None

    assert is_repeated()
    served.table.stand_beside(served.load("team/bool", onnx_models.linear(1.0), "2.0.0"), 0.5)
    assert is_repeated()

    class Copies:
        def offer(self, inputs: Any) -> None: ...

    generation.copies = Copies()
    assert not is_repeated()
    generation.copies = None
    assert is_repeated()
    served.table.stand_beside(served.load(MODEL, onnx_models.linear(3.0), "2.0.0"), 0.5)
    assert not is_repeated()
    assert not generation.slots._lent
    served.table.stand_alone(MODEL)
    assert is_repeated()


def test_who_goes_before_the_answer_is_no_defect(
    served: Serving, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An app that is killed while it waits ends its connection, and nothing is complained of."""
    run = Repeated.run
    with raw_lane(served.lane.path) as lane:
        lane.greet()
        for _ in range(3):
            lane.write(ONES)
            lane.ask(request(ONES, MODEL))

        def run_and_lose(self: Repeated) -> bool:
            lane.close()
            return run(self)

        monkeypatch.setattr(Repeated, "run", run_and_lose)
        lane.send(request(ONES, MODEL))
        wait_for(lambda: served.lane.connections == 0, "the end of the connection")
    assert capfd.readouterr().err == ""
