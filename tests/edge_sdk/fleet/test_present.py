"""How values look: times, plain text for logs, bars only on a terminal."""

from __future__ import annotations

import pytest

from edge_sdk.fleet import present
from edge_sdk.fleet.messages import rollout_from
from edge_sdk.fleet.present import changes, counter, document, settled, time_text
from tests.support.fleet_messages import ARTIFACT, a_rollout, a_rollout_device


def test_time_is_utc() -> None:
    """Times are shown in UTC; what never happened is a dash."""
    assert time_text(1_700_000_000_000) == "2023-11-14 22:13:20"
    assert time_text(0) == "-"


def test_document_keeps_digests_whole() -> None:
    """Documents hold whole digests, since pipelines compare them."""
    value = rollout_from(a_rollout("done", a_rollout_device()))
    assert str(document(value)["devices"][0]["artifact"]) == str(ARTIFACT)


def test_settled_counts_devices_at_rest() -> None:
    """A device on probation is not done yet; a failed or refused one is."""
    states = ("committed", "failed", "refused", "on_probation", "assigned", "building")
    rollout = rollout_from(a_rollout("running", *(a_rollout_device(state=one) for one in states)))
    assert settled(rollout) == 3


def test_changes_name_only_what_moved() -> None:
    """A line for each device that moved on, none for those that did not."""
    first = rollout_from(
        a_rollout("running", a_rollout_device("a", "fetching"), a_rollout_device("b", "fetching"))
    )
    second = rollout_from(
        a_rollout(
            "running",
            a_rollout_device("a", "fetching"),
            a_rollout_device("b", "failed", reason="ResourceError", message="disk full"),
        )
    )
    assert list(changes(first, second)) == ["b: failed 2.0.0 fp32 (ResourceError: disk full)"]
    assert list(changes(second, second)) == []


def test_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the counter draws on standard error, and what is said stands on lines of
    its own; elsewhere only what is said is written."""
    with counter("devices") as bar:
        bar.at(1, 2)
        bar.say("gate-7: [committed]")
    assert capsys.readouterr() == ("", "gate-7: [committed]\n")
    monkeypatch.setenv("TERM", "xterm")
    terminal = present.Console
    monkeypatch.setattr(
        present, "Console", lambda **changes: terminal(force_terminal=True, **changes)
    )
    with counter("devices") as bar:
        bar.at(0, 0)
        bar.at(1, 2)
        bar.say("gate-7: [committed]")
    said = capsys.readouterr()
    assert said.out == ""
    assert "devices" in said.err
    before, _, after = said.err.partition("gate-7: [committed]\n")
    assert before.endswith("\x1b[2K")  # the bar was wiped from the line first
    assert after
