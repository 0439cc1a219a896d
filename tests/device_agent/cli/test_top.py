"""``edge-agent top`` over AgentService, with a page on which models have worked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.cli import main
from device_agent.cli.top import _screen, _show
from device_agent.cli.usage import usage
from tests.support.commands import Ran, run_main
from tests.support.served_page import served_page
from tests.support.used_page import used_page, used_words


@pytest.fixture
def edge_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    return lambda *arguments: run_main(main, list(arguments), capsys, monkeypatch)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[str]:
    with served_page(tmp_path, used_words()) as folder:
        yield folder


def test_one_look(state: str, edge_agent: Callable[..., Ran]) -> None:
    """As one document with loaded models only, or all; and as tables of every phase."""
    look = ("top", "--state", state, "--interval", "0.05")
    document = edge_agent(*look, "--json").document
    assert {one["model"] for one in document["models"]} == {"team/digits", "team/words"}
    assert {one["state"] for one in document["models"]} == {"serving"}
    everything = edge_agent(*look, "--json", "--all").document
    assert len(everything["models"]) == 3
    shown = edge_agent(*look, "--once")
    assert shown.code == 0
    assert "inference 77 up 0:00:0" in shown.out
    assert "50.0 MB private" in shown.out
    rows = [line.split() for line in shown.out.splitlines()]
    digits = next(row for row in rows if row[:3] == ["team/digits", "2.0.0", "serving"])
    assert digits[-2:] == ["1001", "1"]
    assert {"55%", "25%"} <= set(digits)
    phases = [row[1] for row in rows if row[:1] == ["team/digits"] and "serving" not in row]
    assert phases == ["queue", "input", "compute", "output", "whole"]


def test_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """With 80 columns a model has two lines, in which nothing of its names is cut off."""
    from rich.console import Console

    page = used_page()
    document = usage(page, page, now_ms=page.beat_ms, interval_s=1.0)
    Console(width=80).print(_screen(document, wide=False))
    lines = capsys.readouterr().out.splitlines()
    of_digits = [line.split() for line in lines if line.startswith("team/digits ")]
    serving = [words[:3] for words in of_digits if "serving" in words]
    assert serving == [["team/digits", "2.0.0", "serving"]]
    assert ["team/digits", "2.0.0", "1001"] in [[*words[:2], words[-2]] for words in of_digits]


def test_before_inference_runs(tmp_path: Path, edge_agent: Callable[..., Ran]) -> None:
    """An agent without a page, or one where inference never came up, says so."""
    with served_page(tmp_path, None) as state:
        shown = edge_agent("top", "--state", state, "--once", "--interval", "0.05")
    assert shown.code == 0
    assert "inference has not started yet" in shown.out


def test_without_an_agent(tmp_path: Path, edge_agent: Callable[..., Ran]) -> None:
    """Nobody to ask is an error of its own, as for every other question."""
    assert edge_agent("top", "--state", str(tmp_path), "--once").code == 5


def test_live_until_interrupted() -> None:
    """Look after look is drawn, and Ctrl-C is how it ends, not an error."""
    page = used_page()
    document = usage(page, page, now_ms=page.beat_ms, interval_s=1.0)
    shown = []

    def looks() -> Iterator[dict[str, Any]]:
        for _ in range(2):
            shown.append(document)
            yield document
        raise KeyboardInterrupt

    _show(looks(), once=False)
    assert len(shown) == 2
