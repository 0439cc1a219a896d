"""The fast lane's socket: where it is, who may, how many, and how it ends."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agent.access import OWNER, Access
from device_agent.serving.doors import FastLaneDoor
from edge_sdk.base import ConflictError, NotFoundError, UsageError
from edge_sdk.fastlane import VERSION, Answer, Elsewhere, Hello
from tests.support import onnx_models
from tests.support.open_folder import open_folder
from tests.support.processes import wait_for
from tests.support.raw_lane import raw_lane, request
from tests.support.serving_door import Serving, listening

MODEL = "team/linear"
ONES = np.ones((2, 4), np.float32)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with listening(tmp_path, {MODEL: onnx_models.linear(2.0)}, lane=False) as made:
        yield made


def test_the_lane_is_as_open_as_the_door(served: Serving, tmp_path: Path) -> None:
    """The socket file lies beside the door's, is for the same role, and goes at the end."""
    with open_folder() as folder:
        for access, mode in ((OWNER, 0o600), (Access(gid=os.getgid()), 0o660)):
            served.lane.open(f"unix:{folder}/inference.sock", access)
            assert served.lane.path == folder / "inference.sock.lane"
            status = served.lane.path.stat()
            assert (stat.S_IMODE(status.st_mode), status.st_gid) == (mode, os.getgid())
            served.lane.close()
            assert list(folder.iterdir()) == []


def test_a_door_on_tcp_has_no_lane(served: Serving) -> None:
    """Nothing is opened, and closing is allowed."""
    served.lane.open("127.0.0.1:8001")
    assert served.lane.path is None
    served.lane.close()


def test_what_a_killed_process_left_is_replaced(served: Serving, tmp_path: Path) -> None:
    """A socket file without a process behind it does not keep the next one out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(f"{tmp_path}/inference.sock.lane")
    served.lane.open(served.door.address)
    with raw_lane(served.lane.path) as lane:
        lane.greet()


def test_what_lives_is_left_alone(served: Serving, tmp_path: Path) -> None:
    """A second lane at one address is refused, and the first one works on."""
    served.lane.open(served.door.address)
    other = FastLaneDoor(served.dispatcher, served.pool)
    with pytest.raises(ConflictError, match="already listens"):
        other.open(served.door.address)
    other.close()
    with raw_lane(served.lane.path) as lane:
        lane.greet()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(served: Serving, tmp_path: Path, kind: str) -> None:
    """A file, a folder or a link in the way is neither removed nor followed."""
    way = tmp_path / "inference.sock.lane"
    if kind == "file":
        way.write_text("precious")
    elif kind == "folder":
        way.mkdir()
    else:
        way.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="no socket"):
        served.lane.open(served.door.address)
    assert way.is_symlink() if kind == "link" else way.exists()


def test_a_folder_that_is_not_there_is_said(served: Serving, tmp_path: Path) -> None:
    """A lane that cannot be made is a typed error: the other door serves."""
    with pytest.raises(NotFoundError, match="no folder"):
        served.lane.open(f"unix:{tmp_path}/missing/inference.sock")


def test_connections_have_a_limit(served: Serving) -> None:
    """One too many hears Elsewhere; when another goes, there is room again."""
    lane = FastLaneDoor(served.dispatcher, served.pool, connections_max=1)
    lane.open(served.door.address)
    try:
        with raw_lane(lane.path) as first:
            first.greet()
            with raw_lane(lane.path) as second:
                assert isinstance(second.receive(), Elsewhere)
                assert second.receive() is None
            assert lane.connections == 1
        wait_for(lambda: lane.connections == 0, "the first one's end")
        with raw_lane(lane.path) as third:
            third.greet()
    finally:
        lane.close()


_ALL = """
import socket, sys
held = []
while True:
    lane = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lane.connect(sys.argv[1])
    lane.settimeout(0.5)
    try:
        lane.recv(4096)  # an agent that takes a connection waits for the first word
        break
    except TimeoutError:
        held.append(lane)
print(len(held), flush=True)
sys.stdin.read()
"""


def test_one_process_does_not_take_all_connections(served: Serving) -> None:
    """However many it asks for, another app finds room."""
    lane = FastLaneDoor(served.dispatcher, served.pool, connections_max=4)
    lane.open(served.door.address)
    command = [sys.executable, "-S", "-c", _ALL, str(lane.path)]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as greedy:
            assert greedy.stdout is not None
            assert greedy.stdin is not None
            assert greedy.stdout.readline() == b"3\n"
            with raw_lane(lane.path) as other:
                other.greet()
            greedy.stdin.close()
    finally:
        lane.close()


def test_what_was_sent_before_the_end_is_answered(served: Serving) -> None:
    """Closing answers the requests that lie in the socket, and then lets go of everything."""
    served.lane.open(served.door.address)
    before = served.pool.statistics().used_bytes
    with raw_lane(served.lane.path) as lane:
        lane.greet()
        lane.write(ONES)
        for number in range(20):
            lane.send(request(ONES, MODEL, request=number))
        served.lane.close()
        for number in range(20):
            answer = lane.receive()
            assert isinstance(answer, Answer)
            assert answer.request == number
        assert lane.receive() is None
        with pytest.raises(BrokenPipeError):
            lane.send(Hello(version=VERSION, slot_bytes=1))
    assert served.lane.connections == 0
    assert served.pool.statistics().used_bytes < before + 65536


def test_no_threads_left_is_elsewhere(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine gives no thread, the app hears Elsewhere and the door lives on."""
    served.lane.open(served.door.address)

    def refuse(connection: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("device_agent.serving.doors.fast_lane.LaneConnection.start", refuse)
        with raw_lane(served.lane.path) as lane:
            assert isinstance(lane.receive(), Elsewhere)
    with raw_lane(served.lane.path) as lane:
        lane.greet()
