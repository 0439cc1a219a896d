"""Fleet values: what counts as failed, finished and succeeded."""

from __future__ import annotations

import pytest

from edge_sdk.fleet import Cohort, RolloutPlan
from edge_sdk.fleet.messages import planned_device_from, rollout_from
from tests.support.fleet_messages import a_plan, a_rollout, a_rollout_device


@pytest.mark.parametrize(
    ("state", "devices", "finished", "succeeded", "failures"),
    [
        ("building", (), False, False, 0),
        ("running", ("committed", "fetching"), False, False, 0),
        ("done", ("committed", "committed"), True, True, 0),
        ("done", ("committed", "failed"), True, False, 1),
        ("done", ("rolled_back", "failed"), True, False, 2),
        ("done", ("committed", "superseded"), True, True, 0),
        ("done", ("committed", "refused"), True, False, 0),
        ("aborted", ("committed", "recalled"), True, False, 0),
    ],
)
def test_outcome(state, devices, finished, succeeded, failures) -> None:
    """A rollout succeeded where it is done and every device has the version or a later one."""
    rollout = rollout_from(a_rollout(state, *(a_rollout_device(state=one) for one in devices)))
    assert rollout.finished == finished
    assert rollout.succeeded == succeeded
    assert len(rollout.failures) == failures
    assert len(rollout.refusals) == devices.count("refused")


def test_plan_adds_up() -> None:
    """A plan sums bytes and names who gets none."""
    devices = tuple(planned_device_from(one) for one in a_plan()[-1].devices)
    plan = RolloutPlan(model="team/digits", version="2.0.0", devices=devices)
    assert plan.wire_bytes == 12_700_000 + 89_200_000
    assert plan.whole_bytes == 2 * 89_200_000
    assert [one.device for one in plan.without] == ["gate-9"]


def test_cohort_in_words() -> None:
    """An empty cohort is every device; a full one names both halves."""
    assert str(Cohort()) == "every device"
    assert str(Cohort(devices=("a", "b"), selector="x=y")) == "a,b and x=y"
