"""A fleet service in memory and small models to publish to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.fleet import Fleet, Patience
from edge_sdk.rpc import Backoff
from tests.support.fleet_service import FleetInMemory, serving
from tests.support.onnx_models import linear, save


@pytest.fixture
def service() -> FleetInMemory:
    """What the service holds."""
    return FleetInMemory()


@pytest.fixture
def address(service: FleetInMemory) -> Iterator[str]:
    with serving(service) as where:
        yield where


@pytest.fixture
def fleet(address: str) -> Iterator[Fleet]:
    """A connection that waits hardly at all between attempts."""
    patience = Patience(deadline_s=10, attempts=4, backoff=Backoff(base_s=0.001, cap_s=0.01))
    with Fleet(address, operator="ada", patience=patience) as connection:
        yield connection


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """``y = 2 x``: float32 of shape (batch, 4)."""
    return save(linear(2.0), tmp_path / "models" / "model.onnx")
