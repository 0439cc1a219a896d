"""The slow link: its arithmetic, and that it relays and counts real bytes."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from benchmarks.slow_link import Pace, SlowLink


def test_a_steady_stream_has_the_rate() -> None:
    """Pieces that come as fast as they may take bytes / rate in all."""
    pace = Pace(bytes_per_s=1000.0)
    now_s = 50.0
    for _ in range(20):
        now_s += pace.wait_s(100, now_s)
    assert now_s - 50.0 == pytest.approx(2.0, abs=0.01)


def test_a_late_wake_up_is_caught_up() -> None:
    """Sleeping a little too long each time does not lower the rate."""
    pace = Pace(bytes_per_s=1000.0)
    now_s = 0.0
    for _ in range(20):
        now_s += pace.wait_s(100, now_s) + 0.002
    assert now_s == pytest.approx(2.0, abs=0.02)


def test_idle_time_is_not_saved_up() -> None:
    """After a pause the next piece waits for its own time again."""
    pace = Pace(bytes_per_s=1000.0)
    pace.wait_s(100, 0.0)
    assert pace.wait_s(100, 60.0) == pytest.approx(0.1, abs=0.006)


def test_without_limit_nothing_waits() -> None:
    """A rate of 0 lets everything pass."""
    assert Pace(bytes_per_s=0).wait_s(10**9, 0.0) == 0


def test_bytes_arrive_are_counted_and_are_held_back() -> None:
    """What is sent arrives whole; both directions are counted; it takes its time."""
    payload = bytes(range(256)) * 800
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            assert connection.recv(16) == b"please"
            connection.sendall(payload)

    thread = threading.Thread(target=answer)
    thread.start()
    target = f"127.0.0.1:{server.getsockname()[1]}"
    with server, SlowLink(target, bytes_per_s=1_000_000) as link:
        host, _, port = link.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            began = time.monotonic()
            client.sendall(b"please")
            got = b""
            while piece := client.recv(1 << 16):
                got += piece
            took_s = time.monotonic() - began
        thread.join(20)
        assert got == payload
        assert (link.down_bytes, link.up_bytes) == (len(payload), 6)
        assert took_s >= 0.9 * len(payload) / 1_000_000
