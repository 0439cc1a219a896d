"""Addresses that ``edge-agent run`` refuses before any process starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.cli import main
from tests.support.commands import Ran, run_main


@pytest.fixture
def edge_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    return lambda *arguments: run_main(main, list(arguments), capsys, monkeypatch)


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--metrics-address", "0.0.0.0:9105"), 6),
        (("--otlp-endpoint", "http://collector.example:4318"), 6),
        (("--metrics-address", "unix:/tmp/metrics.sock"), 2),
        (("--otlp-endpoint", "collector:4318"), 2),
    ],
)
def test_nothing_unprotected_leaves_the_device(
    tmp_path: Path, edge_agent: Callable[..., Ran], option: tuple[str, str], code: int
) -> None:
    """Metrics and traces beyond this machine are refused in plaintext, as everything else; an
    address that cannot work is wrong usage."""
    ran = edge_agent("run", "--state", str(tmp_path / "s"), "--device", "kiosk-7", *option)
    assert ran.code == code, ran.err
    assert not (tmp_path / "s").exists()
