"""The REST process in the real tree."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from device_agent.access import own_token
from tests.support.processes import Command, wait_for
from tests.support.rest_requests import Rest, ask

READY = Rest("GET", "/v2/health/ready")


def asked(agent: Command, one: Rest, token: str) -> dict[str, Any] | None:
    """None: nobody listens."""
    try:
        return ask(agent.ready["rest_address"], one, version="", other="", token=token)
    except OSError:
        return None


@pytest.mark.processes_measured
def test_it_is_a_process_of_its_own(tmp_path: Path) -> None:
    """It answers for the inference process at the address that was told, is started again at the
    same one after a kill, and ends with the agent; the two others are not disturbed."""
    arguments = ["run", "--state", str(tmp_path / "s"), "--device", "kiosk-7"]
    agent = Command(
        "device_agent.cli",
        [*arguments, "--rest-address", "127.0.0.1:0"],
        tmp_path / "agent.log",
        {"EDGE_AGENT_DISK_RESERVE_BYTES": "0"},
    )
    try:
        agent.start()
        token = own_token(tmp_path / "s")
        stranger = asked(agent, READY, "")
        assert stranger is None or stranger["status"] == 401

        def ready() -> bool:
            told = asked(agent, READY, token)
            return told is not None and told["status"] == 200

        wait_for(ready, "the REST process")
        rest, inference = agent.child("rest_process"), agent.child("device_agent.serving").pid
        unknown = asked(agent, Rest("GET", "/v2/models/team/digits"), token)
        assert unknown is not None
        assert unknown["status"] == 404
        assert "'team/digits'" in unknown["answer"]["error"]
        rest.send_signal(signal.SIGKILL)
        psutil.wait_procs([rest], timeout=20)
        wait_for(ready, "the next REST process")
        assert agent.child("device_agent.serving").pid == inference
        last = agent.child("rest_process")
    finally:
        agent.stop()
    assert not last.is_running()
