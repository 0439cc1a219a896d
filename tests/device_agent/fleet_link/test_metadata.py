"""Metadata files over a real connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.fleet_link import FleetLink
from edge_sdk.base import NotFoundError, UnavailableError
from tests.support.delivery_server import DeliveryServer
from tests.support.trust import SignedFleet


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DeliveryServer]:
    one = DeliveryServer(folder=tmp_path, signed=SignedFleet()).start()
    yield one
    one.stop()


def test_files_by_name(server: DeliveryServer) -> None:
    """Whole, in frames; none where there is none; and an error where nobody is there."""
    assert server.signed is not None
    server.signed.files["7.targets.json"] = bytes(range(256)) * 1000
    link = FleetLink(server.address, device="kiosk-7")
    try:
        frames = list(link.metadata.fetch("7.targets.json"))
        assert b"".join(frames) == server.signed.files["7.targets.json"]
        assert len(frames) == 4
        with pytest.raises(NotFoundError):
            list(link.metadata.fetch("8.targets.json"))
        link.close()
        with pytest.raises(UnavailableError, match="closed"):
            list(link.metadata.fetch("7.targets.json"))  # grpcio alone would crash here
        with pytest.raises(UnavailableError, match="closed"):
            link.report([])
        link = FleetLink(server.address, device="kiosk-7")
        server.stop()
        with pytest.raises(UnavailableError):
            list(link.metadata.fetch("7.targets.json"))
    finally:
        link.close()
