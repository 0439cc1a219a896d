"""One exchange on the lane's socket does what sending and receiving do, compiled or in Python."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_sdk.fastlane.channel import Channel, PlainChannel, channel_over

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packets on a socket: Linux only")

LIMIT_S = 30
Make = Callable[..., Channel]


def compiled(peer: socket.socket, *, waits: bool, poll_us: int = 100) -> Channel:
    module = pytest.importorskip("edge_sdk.fastlane._channel", exc_type=ImportError)
    made: Channel = module.Channel(peer.fileno(), waits, poll_us)
    return made


def sleeping(peer: socket.socket, *, waits: bool) -> Channel:
    return compiled(peer, waits=waits, poll_us=0)


@pytest.fixture(params=[PlainChannel, compiled, sleeping])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    if made is not PlainChannel:
        pytest.importorskip("edge_sdk.fastlane._channel", exc_type=ImportError)
    return made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        wait_at_most(here, LIMIT_S)
        yield here, there


def wait_at_most(peer: socket.socket, seconds: float) -> None:
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


def test_a_packet_goes_out_and_the_next_one_comes_in(make: Make, pair: Any) -> None:
    """The answer is at the buffer's begin, and its size is told."""
    here, there = pair
    there.send(b"answer")
    buffer = bytearray(10)
    assert make(here, waits=True).exchange(bytearray(b"request"), buffer) == 6
    assert buffer == b"answer\0\0\0\0"
    assert there.recv(100) == b"request"


def test_nothing_is_sent_where_there_is_no_packet(make: Make, pair: Any) -> None:
    """None only receives."""
    here, there = pair
    there.send(b"first")
    assert make(here, waits=False).exchange(None, bytearray(10)) == 5
    with pytest.raises(BlockingIOError):
        there.recv(10, socket.MSG_DONTWAIT)


def test_the_end_is_no_bytes(make: Make, pair: Any) -> None:
    """A peer that sends no more, or that was shut for receiving, ends it."""
    here, there = pair
    there.shutdown(socket.SHUT_WR)
    assert make(here, waits=True).exchange(b"request", bytearray(10)) == 0
    here.shutdown(socket.SHUT_RD)
    assert make(here, waits=True).exchange(None, bytearray(10)) == 0


@pytest.mark.parametrize("unread", [False, True])
def test_a_packet_that_cannot_be_sent_is_told_apart(make: Make, pair: Any, unread: bool) -> None:
    """The peer had gone, also with unread packets: not sent, which is a broken pipe."""
    here, there = pair
    if unread:
        here.send(b"unread")
    there.close()
    with pytest.raises(BrokenPipeError):
        make(here, waits=True).exchange(b"request", bytearray(10))


def test_an_answer_that_does_not_come_is_not_taken_for_that(make: Make, pair: Any) -> None:
    """The peer goes with the request unread, but it was sent: the end, or a reset."""
    here, there = pair
    ends: list[int] = []

    def go() -> None:
        try:
            ends.append(make(here, waits=True).exchange(b"request", bytearray(10)))
        except OSError as error:
            assert error.errno is not None
            ends.append(error.errno)

    asking = threading.Thread(target=go)
    asking.start()
    while not there.recv(1, socket.MSG_PEEK):
        pass
    there.close()
    asking.join(LIMIT_S)
    assert ends in ([0], [errno.ECONNRESET])


def test_who_does_not_wait_for_room_is_told(make: Make, pair: Any) -> None:
    """A peer that reads nothing stops nobody."""
    here, there = pair
    channel = make(here, waits=False)
    with pytest.raises(BlockingIOError):
        while True:
            there.send(b"answer")
            channel.exchange(bytes(1000), bytearray(10))


def test_the_sockets_limit_holds(make: Make, pair: Any) -> None:
    """Nothing comes: the socket's own time limit ends it."""
    here, _ = pair
    wait_at_most(here, 0.004)
    with pytest.raises(BlockingIOError):
        make(here, waits=True).exchange(b"request", bytearray(10))


def test_after_close_nothing_goes_out(make: Make, pair: Any) -> None:
    """Also where another socket has got the descriptor's number since."""
    here, _ = pair
    channel = make(here, waits=True)
    number = here.fileno()
    channel.close()
    here.close()
    other, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other, far:
        assert other.fileno() == number
        far.send(b"answer")
        with pytest.raises(OSError, match="descriptor"):
            channel.exchange(b"request", bytearray(10))


def test_signals_are_handled_while_it_waits(make: Make, pair: Any) -> None:
    """A handler runs, and it waits on; what a handler raises ends it."""
    here, there = pair
    channel = make(here, waits=True)
    with on_alarm(lambda: there.send(b"answer")):
        assert channel.exchange(b"request", bytearray(10)) == 6

    def stop() -> None:
        raise KeyboardInterrupt

    with on_alarm(stop), pytest.raises(KeyboardInterrupt):
        channel.exchange(b"request", bytearray(10))


def test_a_signal_during_the_poll_is_not_lost(pair: Any) -> None:
    """It came before the sleep, and its handler runs before that."""
    here, there = pair
    channel = compiled(here, waits=True, poll_us=100_000)
    with on_alarm(lambda: there.send(b"answer")):
        assert channel.exchange(b"request", bytearray(10)) == 6


class on_alarm:  # noqa: N801 - reads as what it is
    """Calls it from a signal's handler, a moment from now."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, lambda *_: self._call())
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


@pytest.mark.parametrize("poll_us", [0, LIMIT_S * 1_000_000])
def test_other_threads_work_while_it_waits(pair: Any, poll_us: int) -> None:
    """Asleep and in the poll: it does not hold the interpreter's lock."""
    here, there = pair
    channel = compiled(here, waits=True, poll_us=poll_us)
    sizes: list[int] = []
    asking = threading.Thread(
        target=lambda: sizes.append(channel.exchange(b"request", bytearray(10)))
    )
    asking.start()
    assert there.recv(10) == b"request"
    there.send(b"answer")
    asking.join(LIMIT_S / 2)
    assert sizes == [6]


def test_polling_in_vain_is_soon_left(pair: Any) -> None:
    """40 times nothing comes: it polls the first time and, eight later, once more."""
    here, _ = pair
    wait_at_most(here, 0.004)
    channel = compiled(here, waits=True, poll_us=20_000)
    began_s = time.thread_time()
    for _ in range(40):
        with pytest.raises(BlockingIOError):
            channel.exchange(None, bytearray(10))
    assert time.thread_time() - began_s < 0.2


@pytest.mark.parametrize(
    "arguments", [(), (b"request",), (b"request", bytearray(1), 1), (1, bytearray(1)), (b"", 1)]
)
def test_other_arguments_are_refused(pair: Any, arguments: tuple[object, ...]) -> None:
    """Nothing is sent."""
    here, there = pair
    channel: Any = compiled(here, waits=True)
    with pytest.raises(TypeError):
        channel.exchange(*arguments)
    with pytest.raises(BlockingIOError):
        there.recv(10, socket.MSG_DONTWAIT)


def test_a_buffer_that_cannot_be_written_is_refused(pair: Any) -> None:
    """Before anything is sent."""
    here, there = pair
    channel: Any = compiled(here, waits=True)
    with pytest.raises(BufferError):
        channel.exchange(b"request", b"1234567")
    with pytest.raises(BlockingIOError):
        there.recv(10, socket.MSG_DONTWAIT)


@pytest.mark.parametrize(("cores", "polls"), [(1, False), (2, True), (None, False)])
def test_the_compiled_one_is_used_where_it_is(
    pair: Any, monkeypatch: pytest.MonkeyPatch, cores: int | None, polls: bool
) -> None:
    """And polls where there is another core from which something may come meanwhile."""
    here, _ = pair
    module = pytest.importorskip("edge_sdk.fastlane._channel", exc_type=ImportError)
    assert isinstance(channel_over(here, waits=True), module.Channel)
    made: list[tuple[int, bool, int]] = []
    monkeypatch.setattr(module, "Channel", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    channel_over(here, waits=False)
    assert [(number, waits, poll_us > 0) for number, waits, poll_us in made] == [
        (here.fileno(), False, polls)
    ]


def test_without_a_compiler_it_is_python(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package works where nothing was compiled."""
    monkeypatch.setitem(sys.modules, "edge_sdk.fastlane._channel", None)
    assert isinstance(channel_over(pair[0], waits=True), PlainChannel)
