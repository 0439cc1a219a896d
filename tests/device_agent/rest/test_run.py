"""The REST process's work, in a thread."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from device_agent.config import AgentConfig
from device_agent.rest import check_rest, run_rest
from device_agent.rest.run import RestServer
from edge_sdk.base import ConflictError, RefusedError, UsageError
from tests.support.processes import wait_for


def config(address: str) -> AgentConfig:
    return AgentConfig(state_dir="/nowhere", device="kiosk-7", rest_address=address)


def test_what_it_needs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing where it is off; the extra where it is missing; another machine never."""
    check_rest(config("127.0.0.1:0"))
    with pytest.raises(RefusedError, match="not this machine"):
        check_rest(config("0.0.0.0:80"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_rest(config(""))
    with pytest.raises(RefusedError, match=r"edge-model-sdk\[rest\]"):
        check_rest(config("127.0.0.1:0"))


def test_a_socket_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Unix socket it is its user's alone, from start to the word to end."""
    nice: list[int] = []
    monkeypatch.setattr(os, "nice", nice.append)
    path = tmp_path / "rest.sock"
    over = threading.Event()
    worker = threading.Thread(target=run_rest, args=(config(f"unix:{path}"), over))
    worker.start()
    try:
        wait_for(path.exists, "the socket")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            wait_for(lambda: peer.connect_ex(str(path)) == 0, "the server")
            peer.sendall(b"GET /v3 HTTP/1.0\r\n\r\n")
            assert peer.recv(4096).startswith(b"HTTP/1.0 404")
    finally:
        over.set()
        worker.join(timeout=20)
    assert not worker.is_alive()
    assert not path.exists()
    assert nice


def test_a_taken_address_is_a_conflict() -> None:
    """Of a port and of a socket."""
    with RestServer("127.0.0.1:0", "127.0.0.1:1") as server, pytest.raises(ConflictError):
        RestServer(server.address, "127.0.0.1:1")


def test_a_dead_socket_is_no_obstacle(tmp_path: Path) -> None:
    """One that a killed process left is taken over; a file that is none is not."""
    path = tmp_path / "rest.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    RestServer(f"unix:{path}", "127.0.0.1:1").close()
    path.write_text("mine")
    with pytest.raises(UsageError):
        RestServer(f"unix:{path}", "127.0.0.1:1")
    assert path.read_text() == "mine"
