"""The demo's verdict on itself: every promise that does not hold is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demo import report
from demo.report import Act, DeviceResult, Outcome

STATES = {"1.0.0": "committed", "2.0.0": "committed", "3.0.0": "failed", "4.0.0": "rolled_back"}


def _device(name: str, state: str, wire_bytes: int = 40, whole_bytes: int = 100) -> DeviceResult:
    return DeviceResult(
        device=name,
        variant="fp32",
        state=state,
        reason="",
        message="",
        wire_bytes=wire_bytes,
        whole_bytes=whole_bytes,
        seconds=1.5,
        ratio=7.5 if state == "rolled_back" else 1.0,
    )


def _act(version: str, *devices: DeviceResult) -> Act:
    return Act(version=version, devices=devices, served=10, failed=0)


def _good() -> Outcome:
    return Outcome(
        acts=tuple(
            _act(version, _device("a", state), _device("b", state, 20, 50))
            for version, state in STATES.items()
        ),
        accuracy={"1.0.0": {"a": 0.9, "b": 0.8}, "2.0.0": {"a": 0.95, "b": 0.97}},
        served=40,
        failed=0,
    )


def test_the_json_has_exactly_its_keys() -> None:
    """build/demo.json adds up both variants of v1 to v2 and says how v3 and v4 ended."""
    assert report.as_json(_good()) == {
        "whole_bytes": 150,
        "delta_bytes": 60,
        "accuracy": {"v1": pytest.approx(0.85), "v2": pytest.approx(0.96)},
        "served": 40,
        "failed": 0,
        "v3": "failed",
        "v4": "rolled_back",
    }


def test_what_holds_is_no_problem() -> None:
    """A run in which everything happened as promised has no problem."""
    assert report.broken_promises(_good()) == []


@pytest.mark.parametrize(("number", "version"), list(enumerate(STATES)))
def test_every_version_must_end_as_promised(number: int, version: str) -> None:
    """One device that ends otherwise is named, with the version."""
    outcome = _good()
    acts = list(outcome.acts)
    elsewhere = replace(_device("b", "fetching"), ratio=7.5)
    acts[number] = _act(version, _device("a", STATES[version]), elsewhere)
    (problem,) = report.broken_promises(replace(outcome, acts=tuple(acts)))
    assert problem.startswith(f"{version} on b ended as fetching")


@pytest.mark.parametrize("ratio", [None, 3.9])
def test_the_slow_version_must_really_be_slow(ratio: float | None) -> None:
    """v4 proves nothing where it is less than four times as slow, or nobody measured it."""
    outcome = _good()
    slow = replace(_device("a", "rolled_back"), ratio=ratio)
    acts = (*outcome.acts[:3], _act("4.0.0", slow))
    (problem,) = report.broken_promises(replace(outcome, acts=acts))
    assert problem == f"4.0.0 was {ratio} times as slow on a, not 4"


@pytest.mark.parametrize(("wire", "whole"), [(100, 100), (0, 100), (120, 100), (5, 0)])
def test_a_delta_must_save_something(wire: int, whole: int) -> None:
    """v2 has to travel as less than its whole, and as more than nothing."""
    outcome = _good()
    acts = list(outcome.acts)
    acts[1] = _act("2.0.0", _device("a", "committed", wire, whole))
    assert len(report.broken_promises(replace(outcome, acts=tuple(acts)))) == 1


def test_failed_requests_no_requests_and_no_gain_are_problems() -> None:
    """A failed request, no request at all, or a v2 that is no better: each is named."""
    worse = {"1.0.0": {"a": 0.9}, "2.0.0": {"a": 0.9}}
    problems = report.broken_promises(replace(_good(), served=0, failed=2, accuracy=worse))
    assert problems == [
        "2 requests failed",
        "no request was served",
        "2.0.0 is not more accurate than 1.0.0",
    ]


def test_devices_that_disagree_are_told_apart() -> None:
    """An act whose devices ended differently has neither of the two states."""
    assert _act("3.0.0", _device("a", "failed"), _device("b", "committed")).state == (
        "committed+failed"
    )


def test_a_bar_shows_the_share() -> None:
    """Half is half, too much is full, nothing known is empty."""
    assert report.bar(50, 100).count("█") == len(report.bar(50, 100)) // 2
    assert "░" not in report.bar(200, 100)
    assert "█" not in report.bar(10, 0)


def test_the_table_names_every_device_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    """The table at the end has a line for each device of each version."""
    report.show(_good())
    text = capsys.readouterr().out
    assert text.count("a (fp32)") == 4
    assert "rolled back" in text
    assert "95.0%" in text


def test_of_the_users_own_models_only_arrival_is_promised() -> None:
    """Unknown models may be equal or answer nothing; a failed request is a problem still."""
    acts = tuple(_act(version, _device("a", "committed", 0, 0)) for version in ("1.0.0", "2.0.0"))
    outcome = Outcome(acts=acts, accuracy={}, served=0, failed=0)
    assert report.broken_promises(outcome, own=True) == []
    assert report.broken_promises(replace(outcome, failed=1), own=True) == ["1 requests failed"]
