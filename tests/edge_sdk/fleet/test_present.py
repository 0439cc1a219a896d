"""How values look: times, plain text for logs, bars only on a terminal."""

from __future__ import annotations

import queue

import pytest

from edge_sdk.fleet import present
from edge_sdk.fleet.messages import rollout_from
from edge_sdk.fleet.present import (
    Patience,
    changes,
    counter,
    document,
    rollout_document,
    rollout_summary,
    settled,
    time_text,
)
from edge_sdk.protos import fleet_v1_pb2 as wire
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
    devices = (a_rollout_device(f"gate-{at}", one) for at, one in enumerate(states))
    rollout = rollout_from(a_rollout("running", *devices))
    assert settled(rollout) == 3


def test_a_device_of_a_group_is_at_rest_with_all_of_it() -> None:
    """Of several models that come together, a device counts when none of them moves any more,
    and each has a row, a column and a line that name it."""
    rows = [
        a_rollout_device("a", "committed"),
        a_rollout_device("a", "on_probation", model="team/letters"),
        a_rollout_device("b", "failed"),
        a_rollout_device("b", "failed", model="team/letters"),
    ]
    also = [wire.ModelVersion(model="team/letters", version="3.1.0")]
    rollout = rollout_from(a_rollout("running", *rows, together=also))
    assert settled(rollout) == 1
    assert rollout_document(rollout)["failures"] == ["b"]
    assert "r-7 team/digits 2.0.0 with team/letters 3.1.0 to" in rollout_summary(rollout)
    first = rollout_from(a_rollout("running", *rows[:1], *rows[2:], together=also))
    assert list(changes(first, rollout)) == ["a: on_probation team/letters 2.0.0 fp32"]


def test_changes_name_only_what_moved() -> None:
    """A line for each device that moved on or says why it waits, none for the others."""
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
    waiting = a_rollout_device("a", "fetching", reason="TrustError", message="not taken up")
    third = rollout_from(a_rollout("running", waiting))
    assert list(changes(first, third)) == ["a: fetching 2.0.0 fp32 (TrustError: not taken up)"]


def test_a_rollout_that_does_not_move_says_who_is_waited_for() -> None:
    """Only devices of which more is expected, with what they said last, after a while."""
    rollout = rollout_from(
        a_rollout(
            "running",
            a_rollout_device("a", "committed"),
            a_rollout_device("b", "assigned", reason="TrustError", message="not taken up"),
            a_rollout_device("c", "building"),
        )
    )
    said: queue.Queue[str] = queue.Queue()
    patience = Patience(said.put, quiet_s=0.01)
    patience.heard(rollout)
    waiting = "and nothing has moved for 0 s"
    assert said.get(timeout=20) == f"b: assigned, {waiting}; last said: TrustError: not taken up"
    assert said.get(timeout=20) == f"c: building, {waiting}"
    patience.heard(None)
    unheard = Patience(said.put, quiet_s=3600)
    unheard.heard(rollout)
    unheard.heard(None)
    assert said.empty()


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
