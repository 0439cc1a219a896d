"""A model that is no longer to be served or held goes at once, and whoever waits hears of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import NotFoundError
from edge_sdk.client import Client, connect
from edge_sdk.fleet import Fleet
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet, loopback_fleet
from tests.support.onnx_models import mlp, save
from tests.support.processes import wait_for

pytestmark = pytest.mark.distributor

SOON_S = 30.0  # on a busy machine; the next check-in would be 48 to 72 s away
FRAME = {"x": np.ones((1, 64), np.float32)}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path / "fleet") as running:
        running.publish(save(mlp((64, 10), seed=1), tmp_path / "v1" / "model.onnx"), "1.0.0")
        yield running


def answers(client: Client) -> bool:
    try:
        client.model(MODEL).infer(FRAME)
    except NotFoundError:
        return False
    return True


def test_undo_of_a_first_rollout(fleet: LoopbackFleet) -> None:
    """The answer names the devices that lose the model, and the watch ends as soon as it is
    gone: nobody waits for the next check-in."""
    agent = fleet.start_agent("kiosk-1", EDGE_AGENT_PROBATION_DURATION_S="0.3")
    first = fleet.roll_out("1.0.0")
    assert first.succeeded
    with connect(agent.ready["agent_address"]) as client, fleet.operator() as operator:
        assert answers(client)
        undoing = operator.rollout_undo(first.rollout)
        began_s = time.monotonic()
        assert [one.device for one in undoing.removals] == ["kiosk-1"]
        assert "taken away" in undoing.devices[0].message
        done = _finished(operator, undoing.rollout)
        assert done.succeeded
        assert done.devices[0].facts == {"removed": "true"}
        assert time.monotonic() - began_s < SOON_S
        wait_for(lambda: not answers(client), "the model to be gone")
        assert client.models() == ()


def test_files_for_an_application_after_a_served_version(
    fleet: LoopbackFleet, tmp_path: Path
) -> None:
    """A version that applications load themselves ends what inference answered with; going
    back brings that again."""
    agent = fleet.start_agent("kiosk-1", EDGE_AGENT_PROBATION_DURATION_S="0.3")
    assert fleet.roll_out("1.0.0").succeeded
    second = save(mlp((64, 10), seed=2), tmp_path / "v2" / "model.onnx")
    fleet.publish(second, "2.0.0", serve="none")
    with connect(agent.ready["agent_address"]) as client, fleet.operator() as operator:
        assert answers(client)
        rollout = fleet.roll_out("2.0.0")
        assert rollout.succeeded
        wait_for(lambda: not answers(client), "inference to end")
        model = client.model(MODEL)
        assert model.version == "2.0.0"
        with model.files() as files:
            assert files.path("model.onnx").read_bytes() == second.read_bytes()
        back = _finished(operator, operator.rollout_undo(rollout.rollout).rollout)
        assert back.succeeded
        wait_for(lambda: answers(client), "the version before")
        assert client.model(MODEL).infer(FRAME).version == "1.0.0"


def _finished(operator: Fleet, rollout: str):  # type: ignore[no-untyped-def]
    return list(operator.rollout_watch(rollout, timeout_s=60))[-1]
