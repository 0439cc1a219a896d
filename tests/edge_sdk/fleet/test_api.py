"""The Python API over a real channel: values out, typed errors, identity from the channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.base import FormatError, NotFoundError, RefusedError, UnavailableError
from edge_sdk.fleet import Cohort, Draft, Fleet, Patience
from edge_sdk.fleet.connection import default_operator
from edge_sdk.rpc import Backoff
from tests.support.fleet_messages import (
    a_device,
    a_plan,
    a_rollout,
    a_rollout_device,
    a_verdict,
)
from tests.support.fleet_service import FleetInMemory, serving


def test_publish_then_models(fleet: Fleet, model: Path) -> None:
    """What was published is listed, for its model only."""
    published = fleet.publish(model, Draft(model="team/digits", version="1.0.0", variant="fp32"))
    fleet.publish(str(model), Draft(model="team/other", version="1.0.0", variant="fp32"))
    assert len(fleet.models()) == 2
    (found,) = fleet.models("team/digits")
    assert found.artifact == published.artifact
    assert (found.version, found.variant, found.parent) == ("1.0.0", "fp32", None)
    assert found.size_bytes == published.size_bytes


def test_operator_travels_with_each_call(fleet: Fleet, service: FleetInMemory, model: Path) -> None:
    """Unary calls, client streams and server streams all say who calls."""
    service.plan = a_plan()
    fleet.publish(model, Draft(model="team/digits", version="1.0.0", variant="fp32"))
    fleet.rollout_plan("team/digits", "1.0.0")
    assert set(service.operators) == {"ada"}
    assert {"MissingFiles", "Publish", "PlanRollout"} <= set(service.calls)


def test_somebody_always_calls(address: str, service: FleetInMemory) -> None:
    """Without a name given the login name goes along: nothing is done by nobody."""
    with Fleet(address) as fleet:
        fleet.models()
    assert service.operators == [default_operator()]
    assert default_operator()


def test_devices_and_labels(fleet: Fleet, service: FleetInMemory) -> None:
    """Devices are listed by selector; labels are set and removed."""
    service.devices["gate-7"] = a_device()
    (device,) = fleet.devices("site=berlin")
    assert device.labels == {"site": "berlin"}
    assert service.requests[-1].selector == "site=berlin"
    changed = fleet.label("gate-7", {"tier": "gold"}, remove=["site"])
    assert changed.labels == {"tier": "gold"}
    with pytest.raises(NotFoundError, match="ghost"):
        fleet.label("ghost", {"a": "b"})


def test_explain(fleet: Fleet, service: FleetInMemory) -> None:
    """The explanation is asked for by device, model and version."""
    service.devices["gate-7"] = a_device()
    service.verdicts = [a_verdict()]
    assert fleet.explain("gate-7").verdicts[0].chosen
    fleet.explain("gate-7", "team/digits", "2.0.0")
    asked = service.requests[-1]
    assert (asked.device, asked.model, asked.version) == ("gate-7", "team/digits", "2.0.0")


def test_plan_reports_progress(fleet: Fleet, service: FleetInMemory) -> None:
    """Planning tells how many deltas are built and ends with every device."""
    service.plan = a_plan()
    seen: list[tuple[int, int]] = []
    cohort = Cohort(selector="site=berlin")
    plan = fleet.rollout_plan("team/digits", "2.0.0", cohort, progress=lambda *at: seen.append(at))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert [one.device for one in plan.devices] == ["gate-7", "gate-8", "gate-9"]
    assert service.requests[-1].cohort.selector == "site=berlin"


def test_create_status_list_abort_undo(fleet: Fleet, service: FleetInMemory) -> None:
    """A rollout is made once, seen, listed, aborted and undone by its name."""
    made = fleet.rollout_create("team/digits", "2.0.0", Cohort(devices=("gate-7",)), retry=True)
    assert service.requests[-1].retry
    assert made.cohort.devices == ("gate-7",)
    assert fleet.rollout_status(made.rollout) == made
    assert fleet.rollout_abort(made.rollout).state == "aborted"
    undo = fleet.rollout_undo(made.rollout)
    assert undo.undoes == made.rollout
    assert [one.rollout for one in fleet.rollout_list("team/digits")] == ["r-2", "r-1"]
    assert fleet.rollout_list("team/other") == ()
    with pytest.raises(NotFoundError):
        fleet.rollout_status("r-99")


def test_create_is_never_repeated(fleet: Fleet, service: FleetInMemory) -> None:
    """A rollout whose answer was lost is not made twice by itself."""
    service.breakdowns = [UnavailableError("down")]
    with pytest.raises(UnavailableError):
        fleet.rollout_create("team/digits", "2.0.0")
    assert service.calls == ["CreateRollout"]


def test_reading_is_repeated(fleet: Fleet, service: FleetInMemory) -> None:
    """A distributor that comes back in time is not noticed by a reader."""
    service.breakdowns = [UnavailableError("down")] * 3
    assert fleet.models() == ()
    assert service.calls == ["ListModels"] * 4


def test_watch_ends_with_the_rollout(fleet: Fleet, service: FleetInMemory) -> None:
    """Watching yields each change and ends when the rollout is done."""
    service.rollouts["r-7"] = [
        a_rollout("building"),
        a_rollout("running", a_rollout_device(state="fetching")),
        a_rollout("done", a_rollout_device()),
    ]
    seen = list(fleet.rollout_watch("r-7"))
    assert [one.state for one in seen] == ["building", "running", "done"]
    assert seen[-1].succeeded


def test_watch_outlives_the_distributor(fleet: Fleet, service: FleetInMemory) -> None:
    """A watch that the distributor ends early, or refuses for a while, is taken up again."""
    service.breakdowns = [UnavailableError("down")] * 2
    service.rollouts["r-7"] = [a_rollout("running")]
    watch = fleet.rollout_watch("r-7")
    assert next(watch).state == "running"
    service.rollouts["r-7"] = [a_rollout("aborted")]
    assert [one.state for one in watch][-1] == "aborted"


def test_watch_stops_at_its_time_limit(fleet: Fleet, service: FleetInMemory) -> None:
    """A rollout that is not done in time ends the watch with an error that says it goes on."""
    service.rollouts["r-7"] = [a_rollout("running")]
    with pytest.raises(UnavailableError, match=r"not done within 0\.3 s; it goes on"):
        for seen in fleet.rollout_watch("r-7", timeout_s=0.3):
            assert seen.state == "running"


def test_watch_of_nothing_is_an_error(fleet: Fleet) -> None:
    """A rollout that does not exist is said at once, also with a time limit."""
    with pytest.raises(NotFoundError):
        list(fleet.rollout_watch("r-99", timeout_s=60))


def test_watch_gives_up_when_nobody_answers(service: FleetInMemory) -> None:
    """A distributor that stays away ends the watch with its own error, not the time limit's."""
    with serving(service) as address:
        pass
    patience = Patience(attempts=2, backoff=Backoff(base_s=0.001, cap_s=0.01))
    with (
        Fleet(address, patience=patience) as fleet,
        pytest.raises(UnavailableError, match="is it running there"),
    ):
        list(fleet.rollout_watch("r-7", timeout_s=60))


def test_bad_names_never_leave_this_machine(fleet: Fleet, service: FleetInMemory) -> None:
    """Names and versions are checked before a call is made."""
    for call in (
        lambda: fleet.models("digits"),
        lambda: fleet.rollout_create("team/digits", "two"),
        lambda: fleet.rollout_plan("digits", "2.0.0"),
        lambda: fleet.explain("gate-7", "team/digits", "two"),
        lambda: fleet.rollout_list("digits"),
    ):
        with pytest.raises(FormatError):
            call()
    assert service.calls == []


def test_plaintext_stays_on_this_machine() -> None:
    """Without a certificate there is no channel to another machine."""
    with pytest.raises(RefusedError):
        Fleet("192.0.2.1:7444")
