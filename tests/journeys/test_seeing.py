"""What a real agent did, seen from outside its inference process: in ``top`` and on /metrics."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

from device_agent.local_api.asking import AgentQuestions
from edge_sdk.client import connect
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet, loopback_fleet
from tests.support.onnx_models import linear, save
from tests.support.processes import Command, environment, program, wait_for
from tests.support.trace_collector import TraceCollector, trace_collector

pytestmark = pytest.mark.distributor

REQUESTS = 20


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path / "fleet") as running:
        running.publish(save(linear(1.0), tmp_path / "1.0.0" / "model.onnx").parent, "1.0.0")
        yield running


def top(agent: Command) -> dict[str, Any]:
    ran = subprocess.run(
        [
            *program("device_agent.cli"),
            *("top", "--local-address", agent.ready["agent_address"]),
            *("--once", "--json", "--interval", "0.1"),
        ],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def scraped(agent: Command, mark: str) -> float:
    """The one sample of /metrics whose line holds ``mark``."""

    def answer() -> str | None:
        try:
            with urllib.request.urlopen(
                f"http://{agent.ready['metrics_address']}/metrics", timeout=10
            ) as response:
                return str(response.read().decode())
        except URLError:
            return None

    text = wait_for(answer, "the metrics process")
    (line,) = (one for one in text.splitlines() if mark in one and not one.startswith("#"))
    return float(line.split()[-1])


def ask(agent: Command, *, lane: bool) -> None:
    """``REQUESTS`` requests by the lane, or by gRPC alone."""
    with connect(agent.ready["agent_address"], fast_lane=lane) as client:
        model = client.model(MODEL)
        for _ in range(REQUESTS):
            model.infer({"x": np.ones((1, 4), np.float32)})


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with trace_collector() as running:
        yield running


def test_requests_of_both_doors_are_seen(fleet: LoopbackFleet, collector: TraceCollector) -> None:
    """Requests over lane and gRPC are counted with their times, and stay counted when the
    inference process is killed and starts again; each is traced, as this agent was told."""
    agent = fleet.start_agent(
        *("kiosk-1", "--metrics-address", "127.0.0.1:0", "--otlp-endpoint", collector.url),
        EDGE_AGENT_TRACE_EVERY="1",
    )
    assert fleet.roll_out("1.0.0").succeeded
    ask(agent, lane=True)
    ask(agent, lane=False)
    (model,) = top(agent)["models"]
    assert (model["model"], model["version"], model["state"]) == (MODEL, "1.0.0", "serving")
    seen = model["requests"]
    assert seen >= 2 * REQUESTS  # probation may have asked, too
    for phase in model["phases"].values():
        assert phase["count"] == seen
        assert 0 < phase["p50_ms"] <= phase["p90_ms"] <= phase["p99_ms"] <= phase["p999_ms"] < 1e4
    assert model["batch_sizes"] == {"1": seen}
    assert scraped(agent, 'outcome="run"') == seen
    metrics = agent.child("metrics_process")

    def traced() -> bool:
        """A record that is written while it is read may be lost, no more."""
        return sum(span.name == f"infer {MODEL}" for span in collector.spans()) >= 2 * REQUESTS - 1

    wait_for(traced, "a span for each request")
    agent.child("device_agent.serving").send_signal(signal.SIGKILL)
    with AgentQuestions(agent.ready["agent_address"]) as questions:
        wait_for(lambda: questions.statistics().page.starts == 2, "the second start")
    ask(agent, lane=True)
    again = top(agent)
    assert again["inference"]["starts"] == 2
    assert again["models"][0]["requests"] >= seen + REQUESTS
    assert again["models"][0]["loads"] == 2
    assert scraped(agent, 'outcome="run"') == again["models"][0]["requests"]
    assert scraped(agent, "edge_inference_starts_total") == 2
    assert metrics.is_running()
