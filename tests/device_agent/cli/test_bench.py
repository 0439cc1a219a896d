"""``edge-agent bench`` against a serving door of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_agent.cli import main
from device_agent.local_api.asking import AgentQuestions, Asked
from device_agent.statistics_page import PageSnapshot
from tests.support.agent_service import fake_agent
from tests.support.commands import Ran, run_main
from tests.support.onnx_models import linear
from tests.support.serving_door import serving
from tests.support.used_page import used_page


@pytest.fixture
def edge_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Runs the command in this process."""
    return lambda *arguments: run_main(main, list(arguments), capsys, monkeypatch)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    made = serving(tmp_path, {"team/digits": linear(2.0)})
    made.door.open(f"unix:{tmp_path}/inference.sock")
    made.lane.open(made.door.address)
    yield made.door.address
    made.lane.close()
    made.door.close()


def test_goals_decide_the_exit_code(
    edge_agent: Callable[..., Ran], address: str, tmp_path: Path
) -> None:
    """Met goals end with 0, a missed one with 6; the document is there either way, and the
    report is written, but never over another file unasked."""
    common = ("bench", "--inference-address", address, "--warm-up-s", "0")
    scenario = tmp_path / "mix.toml"
    scenario.write_text(
        'duration-s = 0.3\n[[load]]\nmodel = "team/digits"\nrate = 100\np50-ms = 5000\n'
    )
    report = tmp_path / "report.html"
    good = edge_agent(*common, "--scenario", str(scenario), "--html", str(report), "--json")
    assert good.code == 0, good.err
    assert good.document["met"] is True
    assert report.read_text().startswith("<!DOCTYPE html>")
    bad = edge_agent(
        *common, "--load", "team/digits clients=1 throughput=1e9", "--duration-s", "0.2"
    )
    assert bad.code == 6
    assert "MISSED" in bad.out
    assert "1 goal is not met" in bad.err
    again = edge_agent(*common, "--scenario", str(scenario), "--html", str(report))
    assert again.code == 7
    nowhere = ("--html", str(tmp_path / "no" / "report.html"), "--duration-s", "3600")
    assert edge_agent(*common, "--scenario", str(scenario), *nowhere).code == 7  # at once
    assert "--force" in again.err


def test_wrong_usage_is_said(edge_agent: Callable[..., Ran], tmp_path: Path) -> None:
    """No load, a load that is none, and no agent are each said in one line."""
    assert edge_agent("bench", "--inference-address", "unix:/x").code == 2
    wrong = edge_agent("bench", "--inference-address", "unix:/x", "--load", "team/digits")
    assert (wrong.code, "either rate" in wrong.err) == (2, True)
    none = edge_agent("bench", "--state", str(tmp_path), "--load", "team/digits rate=1")
    assert (none.code, "no agent runs" in none.err) == (5, True)


def test_an_agent_says_where_the_time_went(
    edge_agent: Callable[..., Ran], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an agent, its statistics of the time that counted are shown; one of a release that
    has none is loaded all the same."""
    bench = ("bench", "--state", str(tmp_path), "--load", "team/digits rate=50")
    bench = (*bench, "--duration-s", "0.2", "--warm-up-s", "0")
    looks = iter([Asked(page=PageSnapshot(), now_ms=0), Asked(page=used_page(), now_ms=1)])
    with fake_agent(tmp_path) as agent:
        agent.inference_address = address
        older = edge_agent(*bench, "--json")
        monkeypatch.setattr(AgentQuestions, "statistics", lambda _: next(looks))
        shown = edge_agent(*bench)
    assert (older.code, older.document["served"]) == (0, []), older.err
    assert older.document["address"] == f"unix:{tmp_path}/agent.sock"
    assert shown.code == 0, shown.err
    (words,) = (line.split() for line in shown.out.splitlines() if line.startswith("team/words"))
    assert words[1] == "2.00"
