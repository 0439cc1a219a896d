"""Loads as real processes against a serving door of this process, and their report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from device_agent.config import ModelConfig
from device_agent.load_test import Plan, Where, html_report, parse_load, run_loads
from edge_sdk.base import EdgeError, NotFoundError, UsageError
from tests.support.onnx_models import linear, remembering
from tests.support.serving_door import serving

STATES = ModelConfig(states={"sum": "sum.next", "cache": "cache.next"})
TIMES = {"p50_ms": 0.0021, "p99_ms": 130.2, "mean_ms": 0.1}
SERVED = {
    "model": "team/<digits>",
    "version": "1.0.0",
    "batch_mean": 1.5,
    "phases": {
        **dict.fromkeys(("queue", "input", "compute"), TIMES),
        "output": dict.fromkeys(TIMES),
    },
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("door")
    made = serving(
        folder,
        {"team/digits": linear(2.0), "team/remembering": remembering()},
        settings={"team/remembering": STATES},
    )
    made.door.open(f"unix:{folder}/inference.sock")
    made.lane.open(made.door.address)
    yield made.door.address
    made.lane.close()
    made.door.close()


def plan(address: str, *loads: str, fast_lane: bool = True, duration_s: float = 0.4) -> Plan:
    return Plan(
        loads=tuple(parse_load(one) for one in loads),
        where=Where(inference=address, fast_lane=fast_lane),
        warm_up_s=0.1,
        duration_s=duration_s,
    )


def measured(address: str, *loads: str, answers: int, **how: Any) -> dict[str, Any]:
    """A run in which the last load got so many answers: a longer one where the machine is busy."""
    for duration_s in (0.2, 1.0, 5.0, 25.0):
        found = run_loads(plan(address, *loads, duration_s=duration_s), **how)
        if found["loads"][-1]["answered"] >= answers:
            break
    return found


@pytest.fixture(scope="module")
def document(address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A mix of an open and a closed loop, one with labels and a goal that cannot be met."""
    path = tmp_path_factory.mktemp("samples") / "labelled.npz"
    values = np.eye(4, dtype=np.float32)
    np.savez(path, x=values, labels=np.array([0, 1, 2, 0]))
    return measured(
        address,
        "team/digits name=sensor rate=150 p50-ms=60000 p99-ms=0.001 arrivals=constant",
        f"team/digits name=<camera> clients=2 labels='{path}' accuracy=0.6 failures=0",
        answers=20,
        observe=lambda: lambda: [SERVED],
    )


@pytest.mark.processes_measured
def test_a_mix_is_measured(document: dict[str, Any]) -> None:
    """Every load asked, was answered by the version that serves, and is judged by its goals."""
    sensor, camera = document["loads"]
    assert sensor["asked"] == pytest.approx(150 * document["seconds"], abs=1)
    assert camera["asked"] >= 20
    for load in (sensor, camera):
        assert load["answered"] == load["asked"]
        assert set(load["versions"]) == {"1.0.0"}
        assert load["latency"]["p50"] >= load["service"]["p50"] > 0
    assert camera["accuracy"] == pytest.approx(0.75, abs=0.15)
    assert [goal["met"] for goal in sensor["goals"]] == [True, False]
    assert camera["goals"][1]["met"] is True
    assert document["met"] is False
    json.dumps(document, allow_nan=False)


class Page(HTMLParser):
    """Which elements there are, and that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "br", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "circle"):
            assert self.open.pop() == tag


def test_report_is_one_file_that_needs_nothing(document: dict[str, Any]) -> None:
    """It has plots and every goal, loads nothing, runs nothing, and names of loads are text."""
    html = html_report(document)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert "svg" in page.seen
    assert not page.seen & {"script", "link", "img", "iframe"}
    assert not re.search(r"(src|href|url)\s*[=(]", html)
    assert "&lt;camera&gt;" in html
    assert "<camera>" not in html
    assert "team/&lt;digits&gt;" in html
    assert "0.0021 / 130" in html
    assert "p99 at most 0.001 ms" in html
    assert "MISSED" in html
    assert document["machine"]["processor"].split("@")[0].strip() in html


def test_ctrl_c_gives_what_was_measured(address: str) -> None:
    """Interrupted, a load of an hour reports the requests until then."""

    pressed = []

    def interrupt(at_s: float, counts: dict[str, int]) -> None:
        if not pressed and counts["team/digits"] > 20 and at_s > 0.2:
            pressed.append(at_s)
            raise KeyboardInterrupt

    found = run_loads(plan(address, "team/digits rate=100", duration_s=3600), progress=interrupt)
    assert found["interrupted"] is True
    assert found["loads"][0]["answered"] > 5
    assert found["seconds"] < 60


def test_sequences_are_asked_step_by_step(address: str) -> None:
    """A model with state is asked in sequences of its own for each client; without, it refuses
    and says so at once."""
    found = measured(address, "team/remembering clients=2 sequence=3 distinct=2", answers=7)
    assert found["loads"][0]["answered"] > 6  # a second sequence of either
    assert found["loads"][0]["failures"] == 0
    with pytest.raises(EdgeError):
        run_loads(plan(address, "team/remembering clients=1", duration_s=0.2))


def test_grpc_is_taken_when_told(address: str) -> None:
    """Without the fast lane the same model answers."""
    found = run_loads(plan(address, "team/digits clients=1", fast_lane=False, duration_s=0.2))
    assert found["door"] == "gRPC"
    assert found["loads"][0]["failures"] == 0


def test_what_cannot_be_asked_is_said_at_once(address: str, tmp_path: Path) -> None:
    """No such model, or inputs that do not fit it, end it before any load begins."""
    with pytest.raises(NotFoundError, match="team/other"):
        run_loads(plan(address, "team/digits rate=5", "team/other rate=5"))
    np.savez(tmp_path / "wrong.npz", z=np.zeros((2, 4)))
    with pytest.raises(UsageError, match="has inputs"):
        run_loads(plan(address, f"team/digits rate=5 inputs={tmp_path}/wrong.npz"))


def test_no_process_is_left(address: str) -> None:
    """What was started has ended when the call returns, also with an error."""
    with pytest.raises(NotFoundError):
        run_loads(plan(address, "team/other rate=5"))
    left = [" ".join(one.cmdline()) for one in psutil.Process().children()]
    assert not [one for one in left if "load_test.generator" in one]
