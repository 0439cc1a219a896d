"""Settings are checked where they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.config import DistributorConfig, default_build_workers
from edge_sdk.base import UsageError


def test_defaults_can_be_served(tmp_path: Path) -> None:
    """The defaults are loopback only and leave a core to the server."""
    config = DistributorConfig(data=tmp_path)
    assert config.device_address.startswith("127.0.0.1:")
    assert config.operator_address.startswith("127.0.0.1:")
    assert config.enrolment_address.startswith("127.0.0.1:")
    assert default_build_workers() >= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"build_workers": 0},
        {"build_workers": 1_000},
        {"fetches_max": 0},
        {"delta_storage_bytes": -1},
        {"check_in_s": -1.0},
        {"plan_wait_s": float("nan")},
        {"reconnect_cap_s": 1e9},
        {"pending_max": -1},
        {"factory_pending_max": -1},
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, wrong: dict[str, float]) -> None:
    """What cannot be served is refused before anything is opened."""
    with pytest.raises(UsageError):
        DistributorConfig(data=tmp_path, **wrong)  # type: ignore[arg-type]
