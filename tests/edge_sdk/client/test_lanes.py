"""The app's end of the fast lane: against the agent's door, and against a peer that lies."""

from __future__ import annotations

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
from edge_sdk.client.lane_request import What
from edge_sdk.client.lanes import Lanes
from edge_sdk.client.model import Model
from tests.support import onnx_models
from tests.support.lane_server import (
    open_descriptors,
)
from tests.support.processes import wait_for
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
            "team/short": onnx_models.identity(TensorProto.UINT16),
            "team/bool": onnx_models.identity(TensorProto.BOOL),
            "team/nonzero": onnx_models.nonzero(),
        },
        lane=False,
    ) as made:
        yield made


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


def test_a_child_has_connections_of_its_own(on_lane: Serving, client: Client) -> None:
    """After a fork, the parent's connections are left to the parent."""
    client.model(MODEL).infer({"x": ONES})
    assert client.lanes is not None
    (parents,) = client.lanes._idle
    lanes_room._forget_all()  # as if this were the child
    assert client.lanes._idle == []
    assert not parents.usable
    assert (client.model(MODEL).infer({"x": ONES}).outputs["y"] == 2).all()
