"""The C app over the fast lane: built with the system's compiler, run against the agent's door."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.fastlane import PACKET_BYTES_MAX, Answer, Elsewhere, Place, SlotGiven, encode
from tests.support import onnx_models
from tests.support.lane_server import SLOT_BYTES, Serve, give, give_good, lane_server
from tests.support.serving_door import Serving, listening

SOURCE = Path(__file__).parents[2] / "firmware_examples" / "fast_lane.c"
MODEL = "team/linear"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("built") / "fast_lane"
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", str(built), str(SOURCE)], check=True)
    return built


@pytest.fixture
def run(program: Path) -> Run:
    def run(path: Path | None, *words: str, x: np.ndarray) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), str(path), *words],
            input=x.tobytes(),
            capture_output=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with listening(
        tmp_path, {MODEL: onnx_models.linear(2.0), "team/nonzero": onnx_models.nonzero()}
    ) as made:
        yield made


def test_it_prints_the_answer(served: Serving, run: Run) -> None:
    """Version, name, type, shape and values; and what a round trip takes, when asked."""
    x = np.array([[1.5, -2, 0, 1e6]], np.float32)
    done = run(served.lane.path, MODEL, "x", "1,4", "50", x=x)
    assert done.returncode == 0, done.stderr
    version, output, taken = done.stdout.decode().splitlines()
    assert version == "version 1.0.0"
    assert output == "y type 11 shape 1 4 : 3 -4 0 2000000"
    assert re.fullmatch(r"round trip of 50: p50 [0-9.]+ us, p99 [0-9.]+ us", taken)
    assert served.table.find(MODEL, "").statistics.snapshot().requests == 51


def test_outputs_may_come_in_a_new_slot(served: Serving, run: Run) -> None:
    """Those that are larger than what was asked for."""
    x = np.ones((12_000, 2), np.float32)
    done = run(served.lane.path, "team/nonzero", "x", "12000,2", x=x)
    assert done.returncode == 0, done.stderr
    assert b"where type 9 shape 2 24000" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["team/none", "x", "1,4"], "NotFoundError: Request for unknown model"),
        ([MODEL, "z", "1,4"], "UsageError: unexpected input 'z'"),
        ([MODEL, "x", "1,9"], "standard input has fewer bytes"),
        ([MODEL, "x", "1;4"], "shape is not like"),
        ([MODEL, "x", "1,0"], "shape is not like"),
        ([MODEL, "x", "99999,99999"], "64 MiB"),
        ([MODEL], "usage"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(served: Serving, run: Run, words: list[str], said: str) -> None:
    """The agent's own words, or ours."""
    done = run(served.lane.path, *words, x=np.ones((1, 4), np.float32))
    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert done.stdout == b""


def answering(make: Callable[[], bytes]) -> Serve:
    def serve(peer: socket.socket) -> None:
        give_good(peer)
        peer.recv(PACKET_BYTES_MAX)
        peer.send(make())

    return serve


def outside() -> bytes:
    place = Place(name="y", dtype="uint8", shape=(64,), offset=SLOT_BYTES, size_bytes=64)
    return encode(Answer(version="1.0.0", outputs=(place,), request=1))


def with_nothing(peer: socket.socket) -> None:
    peer.recv(PACKET_BYTES_MAX)


def without_memory(peer: socket.socket) -> None:
    give(peer, [])


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (with_nothing, "closed the lane"),
        (without_memory, "passed no memory"),
        (answering(outside), "does not lie in the slot"),
        (answering(lambda: outside()[:50]), "cut off"),
        (answering(lambda: b"\x82"), "cut off"),
        (answering(lambda: bytes(PACKET_BYTES_MAX + 1)), "too long"),
        (answering(lambda: encode(Answer(version="", outputs=(), request=2))), "another request"),
        (answering(lambda: encode(SlotGiven(slot_bytes=1, request=1))), "another kind"),
        (answering(lambda: encode(Elsewhere(message="busy"))), "not on the lane: busy"),
    ],
)
def test_a_peer_that_lies_is_not_believed(
    tmp_path: Path, run: Run, serve: Serve, said: str
) -> None:
    """What is no answer ends it with a word, not with a crash."""
    with lane_server(tmp_path / "lane", serve):
        done = run(tmp_path / "lane", MODEL, "x", "1,4", x=np.ones((1, 4), np.float32))
    assert done.returncode == 1
    assert said in done.stderr.decode()


def test_without_a_lane_it_says_so(tmp_path: Path, run: Run) -> None:
    """And names the socket."""
    done = run(tmp_path / "lane", MODEL, "x", "1,4", x=np.ones((1, 4), np.float32))
    assert done.returncode == 1
    assert "lane: No such file" in done.stderr.decode()
