"""Streams of frames: order, drops, errors of both sides, and an end that is prompt."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.config import ModelConfig
from edge_sdk.base import NotFoundError, UsageError
from edge_sdk.client import (
    Client,
    Model,
    SequenceNotStartedError,
    connect,
    stream,
    streaming,
)
from edge_sdk.client.waiting import WhenFull
from tests.support import onnx_models
from tests.support.processes import wait_for
from tests.support.serving_door import Serving, listening

MODEL = "team/linear"
REMEMBERING = ModelConfig(states={"sum": "sum.next", "cache": "cache.next"})
Frame = dict[str, Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("served")
    with listening(
        folder,
        {
            MODEL: onnx_models.linear(2.0),
            "team/nonzero": onnx_models.nonzero(),
            "team/remembering": onnx_models.remembering(),
        },
        settings={"team/remembering": REMEMBERING},
    ) as made:
        yield made


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "grpc"])
def client(served: Serving, request: pytest.FixtureRequest) -> Iterator[Client]:
    with connect(inference=served.door.address, fast_lane=request.param) as made:
        yield made


@pytest.fixture
def model(client: Client) -> Model:
    return client.model(MODEL)


def frame(number: float) -> Frame:
    return {"x": np.full((1, 4), number, np.float32)}


class Camera:
    """Gives a frame when it is told to, into the same array again and again."""

    def __init__(self) -> None:
        self._told = threading.Semaphore(0)
        self._array = np.zeros((1, 4), np.float32)
        self._over = False
        self.given = 0

    def shoot(self, count: int = 1) -> None:
        self._told.release(count)

    def end(self) -> None:
        self._over = True
        self._told.release()

    def __iter__(self) -> Iterator[Frame]:
        while self._told.acquire() and not self._over:
            self._array[:] = self.given
            self.given += 1
            yield {"x": self._array}


def value(result: Any) -> float:
    return float(result.outputs["y"][0, 0])


@pytest.mark.parametrize("copy", [True, False])
def test_every_frame_is_answered_in_order(model: Model, *, copy: bool) -> None:
    """With room or patience for all of them, nothing is dropped, and answers are their own."""
    with stream(model, map(frame, range(50)), copy=copy) as answers:
        for number, one in enumerate(answers):
            assert (one.number, one.dropped, one.error) == (number, 0, None)
            assert value(one.result) == 2 * number
        assert answers.read == 50
        assert list(answers) == []


def test_copies_stay(model: Model) -> None:
    """Unless views are asked for, each answer is the app's own."""
    kept = [one.result for one in stream(model, map(frame, range(5)))]
    assert [value(one) for one in kept] == [0, 2, 4, 6, 8]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=st.sampled_from(["drop-oldest", "drop-newest"]),
    prefetch=st.integers(1, 3),
    bursts=st.lists(st.integers(1, 6), max_size=5),
)
def test_what_is_dropped_is_counted(
    model: Model, policy: WhenFull, prefetch: int, bursts: list[int]
) -> None:
    """Bursts of frames between two answers: those that stay are the newest, or the first, and
    what each answer says was dropped before it is what is missing."""
    camera, shot, waiting = Camera(), 0, []
    expected: list[int] = []
    with stream(model, camera, prefetch=prefetch, when_full=policy) as answers:
        got = []
        for burst in bursts:
            camera.shoot(burst)
            waiting += range(shot, shot + burst)
            shot += burst
            wait_for(lambda shot=shot: answers.read == shot, "the burst")
            waiting = waiting[-prefetch:] if policy == "drop-oldest" else waiting[:prefetch]
            if waiting:
                got.append(next(answers))
                expected.append(waiting.pop(0))
        camera.end()
        got += list(answers)
    assert [one.number for one in got] == expected + waiting
    assert [value(one.result) for one in got] == [2 * one.number for one in got]
    numbers = [-1, *(one.number for one in got)]
    assert [one.dropped for one in got] == [b - a - 1 for a, b in itertools.pairwise(numbers)]


def test_a_source_is_held_back(model: Model) -> None:
    """With ``block`` it is never asked for more than wait, one in hand and one asked."""
    given_out: list[int] = []

    def source() -> Iterator[Frame]:
        for number in range(30):
            given_out.append(number)
            yield frame(number)

    with stream(model, source(), prefetch=2) as answers:
        for one in answers:
            assert len(given_out) <= one.number + 1 + 2 + 1 + 1
    assert len(given_out) == 30


def test_what_the_source_raises_comes_behind_its_frames(model: Model) -> None:
    """The very error, once; then the stream is over."""

    def source() -> Iterator[Frame]:
        yield frame(1)
        yield frame(2)
        raise OSError("the cable")

    answers = stream(model, source())
    assert [value(next(answers).result) for _ in range(2)] == [2, 4]
    with pytest.raises(OSError, match="the cable"):
        next(answers)
    assert list(answers) == []


def wrong_between() -> Iterator[Frame]:
    yield frame(1)
    yield {"x": np.ones((1, 5), np.float32)}
    yield {"x": np.ones((1, 4), np.complex64)}
    yield frame(2)


def test_a_request_that_fails_ends_the_stream(model: Model) -> None:
    """Unless it is told otherwise."""
    answers = stream(model, wrong_between())
    next(answers)
    with pytest.raises(UsageError, match="got \\[1, 5\\]"):
        next(answers)
    assert list(answers) == []


def test_or_is_the_answer_to_its_frame(model: Model) -> None:
    """Then the others are answered all the same."""
    got = list(stream(model, wrong_between(), errors="answer"))
    assert [type(one.error) for one in got] == [type(None), UsageError, UsageError, type(None)]
    assert [one.result is None for one in got] == [False, True, True, False]
    assert value(got[3].result) == 4


def test_frames_may_have_any_shape(model: Model) -> None:
    """Those that do not fit where the first lay are copied elsewhere."""
    shapes = [(1, 4), (3, 4), (1, 4), (2, 4)]
    frames = ({"x": np.full(shape, 3, np.float32)} for shape in shapes)
    got = list(stream(model, frames))
    assert [one.result.outputs["y"].shape for one in got if one.result] == shapes
    assert all((one.result.outputs["y"] == 6).all() for one in got if one.result)


def test_large_outputs_need_room(served: Serving) -> None:
    """As with a prepared call."""
    x = {"x": np.ones((200_000, 2), np.float32)}
    with connect(inference=served.door.address) as client:
        model = client.model("team/nonzero")
        with pytest.raises(UsageError, match="outputs_bytes"):
            list(stream(model, [x]))
        (one,) = stream(model, [x], outputs_bytes=16 << 20)
        assert one.result is not None
        assert one.result.outputs["where"].shape == (2, 400_000)


def test_an_agent_that_began_anew_shares_again(served: Serving) -> None:
    """Frames read before and after are answered, and new ones lie in its memory again."""
    camera = Camera()
    with (
        connect(inference=served.door.address) as client,
        stream(client.model(MODEL), camera, prefetch=1) as answers,
    ):
        camera.shoot(2)
        assert value(next(answers).result) == 0
        assert value(next(answers).result) == 2
        served.lane.close()
        served.lane.open(served.door.address)
        for number in range(2, 8):
            camera.shoot()
            assert value(next(answers).result) == 2 * number
        assert served.lane.connections >= 1
        camera.end()


@pytest.mark.parametrize("one", [7, "seven"])
def test_a_stream_may_be_a_sequence(served: Serving, client: Client, one: int | str) -> None:
    """Its state goes from frame to frame; where a switch ended it one answer says so, and the next
    frame begins it anew."""
    x = {"x": np.ones((1, 2), np.float32)}
    switched = threading.Event()

    def source() -> Iterator[Frame]:
        yield from [x, x, x]
        switched.wait()
        yield from [x, x, x]

    model = client.model("team/remembering")
    with stream(model, source(), errors="answer", sequence=one) as answers:
        assert [value(next(answers).result) for _ in range(3)] == [2, 3.5, 4.75]
        served.serve("team/remembering", onnx_models.remembering(), "2.0.0")
        switched.set()
        assert isinstance(next(answers).error, SequenceNotStartedError)
        assert [value(next(answers).result) for _ in range(2)] == [2, 3.5]


def threads_of_streams() -> int:
    return sum(one.name == "frames" for one in threading.enumerate())


@pytest.mark.parametrize("when_full", ["block", "drop-oldest", "drop-newest"])
def test_closing_stops_the_reader(model: Model, when_full: WhenFull) -> None:
    """At once, where the source gives frames, however many; and nothing is left."""
    answers = stream(model, map(frame, itertools.count()), when_full=when_full)
    next(answers)
    answers.close()
    assert threads_of_streams() == 0
    assert list(answers) == []
    answers.close()


def test_closing_does_not_wait_for_a_source_for_ever(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that gives nothing is left alone; it ends with its next frame."""
    monkeypatch.setattr(streaming, "_JOIN_S", 0.01)
    camera = Camera()
    stream(model, camera).close()
    assert threads_of_streams() == 1
    camera.shoot()
    wait_for(lambda: threads_of_streams() == 0, "its end")


def test_a_stream_that_is_forgotten_reads_no_more(model: Model) -> None:
    """Without close and without ``with``."""
    answers = stream(model, map(frame, itertools.count()))
    next(answers)
    del answers
    gc.collect()
    wait_for(lambda: threads_of_streams() == 0, "its end")


def test_another_thread_may_close_it(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a frame hears the end."""
    monkeypatch.setattr(streaming, "_JOIN_S", 0.01)
    camera = Camera()
    answers = stream(model, camera)
    closer = threading.Thread(target=answers.close)
    closer.start()
    assert list(answers) == []
    camera.end()
    closer.join()
    wait_for(lambda: threads_of_streams() == 0, "its end")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefetch": 0},
        {"when_full": "wait"},
        {"errors": "ignore"},
        {"priority": 7},
        {"sequence": 0},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(model: Model, wrong: dict[str, Any]) -> None:
    """Before anything is read."""
    make: Callable[..., Any] = stream
    with pytest.raises(UsageError):
        make(model, [], **wrong)
    assert threads_of_streams() == 0


def test_an_unknown_model_is_said(client: Client) -> None:
    """By the first answer."""
    with pytest.raises(NotFoundError):
        next(stream(client.model("team/none"), [frame(1)]))
