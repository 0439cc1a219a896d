"""Where the lane is."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge_sdk.fastlane import lane_path


def test_the_lane_lies_beside_a_unix_socket() -> None:
    """The path of the inference socket and .lane."""
    assert lane_path("unix:/run/edge/inference.sock") == Path("/run/edge/inference.sock.lane")


@pytest.mark.parametrize("address", ["127.0.0.1:8001", "unix:", "unix:/" + "a" * 103])
def test_other_addresses_have_none(address: str) -> None:
    """TCP, no path, and a path that would be longer than the kernel takes."""
    assert lane_path(address) is None


def test_a_system_without_such_sockets_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows and macOS: the client then uses gRPC."""
    monkeypatch.delattr(socket, "SOCK_SEQPACKET")
    assert lane_path("unix:/run/edge/inference.sock") is None
