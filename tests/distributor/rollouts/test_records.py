"""Rollouts are kept in the database alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor import rollouts
from distributor.rollouts import Cohort, RolloutRequest
from edge_sdk.base import ModelName, NotFoundError, Version
from tests.support.catalog import AT_MS, MODEL, open_catalog


def test_listed_newest_first(tmp_path: Path) -> None:
    """All rollouts, or those of a model, without their devices."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.add_version("2.0.0")
        one.check_in("a")
        one.roll_out("1.0.0")
        one.roll_out("2.0.0")
        found = one.read(rollouts.list_rollouts, None)
        assert [(each.rollout, each.devices) for each in found] == [("r2", ()), ("r1", ())]
        assert one.read(rollouts.list_rollouts, ModelName.parse("team/other")) == []
        with pytest.raises(NotFoundError):
            one.read(rollouts.get_rollout, "r9")


def test_what_was_building_is_found_again(tmp_path: Path) -> None:
    """After a restart the rollouts that were building are known, with how far they were."""
    request = RolloutRequest(
        model=MODEL, version=Version.parse("1.0.0"), cohort=Cohort(selector=""), retry=True
    )
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.write(rollouts.create, request, at_ms=AT_MS, by="alice")
        one.write(rollouts.note_built, made.rollout, done=1, total=2)
    with open_catalog(tmp_path) as again:
        assert again.read(rollouts.unfinished_builds) == [made.rollout]
        found = again.rollout(made.rollout)
        assert (found.deltas_done, found.deltas_total, found.retry) == (1, 2, True)
        assert found.devices == made.devices


def test_who_is_under_way(tmp_path: Path) -> None:
    """Devices that a rollout may still bring somewhere, with what they hold, alike ones once;
    none of a rollout that is over, and none that arrived or was refused."""
    with open_catalog(tmp_path) as one:
        first, second = one.add_version("1.0.0"), one.add_version("2.0.0")
        for device in ("a", "b", "c"):
            one.check_in(device, active=first)
        one.check_in("d")
        made = one.roll_out("2.0.0")
        assert one.read(rollouts.under_way) == [
            ("r1", second, frozenset()),
            ("r1", second, frozenset([first])),
        ]
        assert one.read(rollouts.newest_targets) == {second}
        one.report("d", one.event("d", 1, "committed"))
        assert one.read(rollouts.under_way) == [("r1", second, frozenset([first]))]
        one.write(rollouts.abort, made.rollout, at_ms=AT_MS, by="alice")
        assert one.read(rollouts.under_way) == []
        one.roll_out("1.0.0", "a")
        assert one.read(rollouts.newest_targets) == {first}
