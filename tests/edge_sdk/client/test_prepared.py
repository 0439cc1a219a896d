"""A prepared call: no copies at the app's side, and never another answer than infer's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from edge_sdk.base import UnavailableError, UsageError
from edge_sdk.client import Client, SequenceStep, VersionNotActiveError, connect
from edge_sdk.fastlane import PACKET_BYTES_MAX, Answer, Infer, Place, decode, encode
from tests.support import onnx_models
from tests.support.lane_server import give_good, lane_server
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
            "team/brain": onnx_models.identity(TensorProto.BFLOAT16),
            "team/nonzero": onnx_models.nonzero(),
        },
    ) as made:
        yield made


@pytest.fixture
def client(served: Serving) -> Iterator[Client]:
    with connect(inference=served.door.address) as made:
        yield made


def test_inputs_are_the_agents_memory_and_outputs_are_views(client: Client) -> None:
    """The first inputs are there; what is written is run; inputs keep what was written; outputs
    are the same array each time and cannot be written to."""
    with client.model(MODEL).prepare({"x": ONES}) as call:
        assert call.shared
        first = call.run()
        y = first.outputs["y"]
        assert (y == 2).all()
        call.inputs["x"][0] = 5
        assert call.run() is first
        assert (y == [[10] * 4, [2] * 4]).all()
        assert (call.inputs["x"] == [[5] * 4, [1] * 4]).all()
        assert first.version == "1.0.0"
        with pytest.raises(ValueError, match="read-only"):
            y[0] = 1
    assert not call.shared
    assert (y == [[10] * 4, [2] * 4]).all()


def test_a_switch_between_two_runs_is_seen(served: Serving, client: Client) -> None:
    """The next run is answered by whoever is active then; a demanded version only by that."""
    model = client.model(MODEL)
    with model.prepare({"x": ONES}) as call, model.prepare({"x": ONES}, version="1.0.0") as old:
        assert old.run().version == call.run().version == "1.0.0"
        served.serve(MODEL, onnx_models.linear(3.0), "2.0.0")
        result = call.run()
        assert (result.version, result.outputs["y"][0, 0]) == ("2.0.0", 3)
        with pytest.raises(VersionNotActiveError):
            old.run()
        assert old.shared


def test_without_a_lane_it_is_the_same_by_grpc(served: Serving) -> None:
    """The same arrays, the same answers, only copied."""
    with (
        connect(inference=served.door.address, fast_lane=False) as other,
        other.model(MODEL).prepare({"x": ONES}) as call,
    ):
        assert not call.shared
        call.inputs["x"][:] = 4
        assert (call.run().outputs["y"] == 8).all()


@pytest.mark.parametrize("given", [np.array(["a", "b"]), ["a"]], ids=["array", "list"])
def test_text_is_copied(client: Client, given: object) -> None:
    """Its size is another one each time."""
    with client.model("team/text").prepare({"x": given}) as call:
        assert not call.shared
        call.inputs["x"][0] = "much longer than before"
        assert call.run().outputs["y"][0] == "much longer than before"


def test_sixteen_bits_are_what_the_model_says(client: Client) -> None:
    """Bit patterns for a bfloat16 model."""
    bits = np.array([1, 0x3F80], np.uint16)
    with client.model("team/brain").prepare({"x": bits}) as call:
        assert call.shared
        assert (call.run().outputs["y"] == bits).all()


@pytest.mark.parametrize("rows", [100, 12_000], ids=["over the inputs", "in a new slot"])
def test_outputs_without_room_are_refused(client: Client, rows: int) -> None:
    """What would have been written over the inputs is an error that names the room it needs, and
    with that room it works; the arrays stay the app's to read."""
    x = np.ones((rows, 2), np.float32)
    model = client.model("team/nonzero")
    with model.prepare({"x": x}, outputs_bytes=64) as call:
        with pytest.raises(UsageError, match="outputs_bytes") as refused:
            call.run()
        assert call.inputs["x"].shape == x.shape
        assert not call.shared
    needed = int(refused.value.facts["needed_bytes"])
    with model.prepare({"x": x}, outputs_bytes=needed) as call:
        for _ in range(2):
            assert (call.run().outputs["where"][0] == np.arange(rows).repeat(2)).all()
        assert call.shared


def test_an_agent_that_began_anew_is_asked_with_copies(served: Serving, client: Client) -> None:
    """The app's arrays are what is sent, wherever they lie."""
    with client.model(MODEL).prepare({"x": ONES}) as call:
        x = call.inputs["x"]
        call.run()
        served.lane.close()
        served.lane.open(served.door.address)
        for value in (7, 8):
            x[:] = value
            assert (call.run().outputs["y"] == 2 * value).all()
        assert not call.shared


def test_an_agents_error_leaves_the_call_as_it_was(client: Client) -> None:
    """A wrong name is refused each time, by the agent; a wrong priority here."""
    with client.model(MODEL).prepare({"z": ONES}) as call:
        for _ in range(2):
            with pytest.raises(UsageError, match="unexpected input"):
                call.run()
        with pytest.raises(UsageError, match="priority"):
            call.run(priority=4)
        assert call.shared


def test_a_deadline_ends_the_sharing(tmp_path: Path) -> None:
    """An agent that is silent is not waited for, and its late answer is nobody's."""

    def silent(peer: socket.socket) -> None:
        give_good(peer)
        peer.recv(PACKET_BYTES_MAX)
        peer.recv(PACKET_BYTES_MAX)  # until the app goes

    path = tmp_path / "inference.sock"
    with (
        lane_server(path.with_suffix(".sock.lane"), silent),
        connect(inference=f"unix:{path}") as c,
    ):
        call = c.model(MODEL).prepare({"x": ONES}, outputs_bytes=1 << 10)
        with pytest.raises(UnavailableError, match="in time"):
            call.run(deadline_s=0.05)
        assert not call.shared


def test_priority_and_sequence_travel(tmp_path: Path) -> None:
    """With each run, its own."""
    seen: list[Infer] = []

    def answer(peer: socket.socket) -> None:
        give_good(peer)
        while data := peer.recv(PACKET_BYTES_MAX):
            request = decode(data)
            assert isinstance(request, Infer)
            seen.append(request)
            place = Place(name="y", dtype="uint8", shape=(8,), offset=0, size_bytes=8)
            peer.send(encode(Answer(version="1.0.0", outputs=(place,), request=request.request)))

    path = tmp_path / "inference.sock"
    with (
        lane_server(path.with_suffix(".sock.lane"), answer),
        connect(inference=f"unix:{path}") as c,
        c.model(MODEL).prepare({"x": ONES}, outputs_bytes=1 << 10) as call,
    ):
        call.run(priority=1, deadline_s=5)
        call.run(sequence=SequenceStep(id=9, end=True), deadline_s=7)
    assert [(one.priority, one.sequence, one.timeout_us) for one in seen] == [
        (1, 0, 5_000_000),
        (0, 9, 7_000_000),
    ]
    assert (seen[1].sequence_start, seen[1].sequence_end) == (False, True)
