"""``edge-fleet rollout``: what a pipeline relies on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_sdk.base import NotFoundError
from edge_sdk.fleet import Fleet
from edge_sdk.fleet.cli import main
from edge_sdk.protos import fleet_v1_pb2 as wire
from tests.support.commands import Ran, run_main
from tests.support.fleet_messages import SOURCE, a_plan, a_rollout, a_rollout_device
from tests.support.fleet_service import FleetInMemory

EdgeFleet = Callable[..., Ran]


@pytest.fixture
def rollout(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> EdgeFleet:
    """Runs ``edge-fleet rollout`` against the service in memory."""
    monkeypatch.setenv("EDGE_FLEET_DISTRIBUTOR", address)
    return lambda *arguments: run_main(main, ["rollout", *arguments], capsys, monkeypatch)


def test_plan_says_who_gets_what(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """The plan shows bytes, where a delta starts from, and why a device gets the whole or none."""
    service.plan = a_plan()
    said = rollout("plan", "team/digits", "2.0.0", "--selector", "site=berlin").out
    for words in ("12.7 MB", "89.2 MB", "nothing", "the device holds no version of this model"):
        assert words in said
    assert "fp32: needs engine onnxruntime" in said
    assert f"{SOURCE.short}, 2 steps" in said
    assert "2 of 3 devices get team/digits 2.0.0: 101.9 MB on the wire" in said


def test_plan_names_who_has_it_already(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """A device that holds the very artifact gets nothing on the wire, and not from nothing."""
    service.plan = a_plan()
    service.plan[-1].devices[0].ClearField("source_artifact")
    service.plan[-1].devices[0].wire_bytes = 0
    row = rollout("plan", "team/digits", "2.0.0").out.splitlines()[2]
    assert row.split()[:6] == ["gate-7", "fp32", "is", "there", "0", "B"]


def test_plan_as_json(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """The document has the sums and who gets none, so that a pipeline can decide."""
    service.plan = a_plan()
    document = rollout("plan", "team/digits", "2.0.0", "--device", "a", "--device", "b", "--json")
    assert document.document["without"] == ["gate-9"]
    assert document.document["wire_bytes"] == 101_900_000
    assert document.document["devices"][1]["source_artifact"] is None
    assert list(service.requests[-1].cohort.devices) == ["a", "b"]


def test_create_names_the_rollout(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Creating answers at once with the name that the other commands take."""
    made = rollout("create", "team/digits", "2.0.0", "--retry", "--selector", "x=y")
    assert made.out == "r-1 team/digits 2.0.0 to x=y: building\n"
    assert "rollout watch r-1" in made.err
    assert service.requests[-1].retry
    document = rollout("create", "team/digits", "2.0.0", "--json").document
    assert document["rollout"] == "r-2"
    assert document["finished"] is False


def test_create_together(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Models named by --with come as one group, in the order named; what is no name of a model
    is wrong usage."""
    also = ("--with", "team/eyes", "3.1.0", "--with", "team/nose", "1.0.0")
    made = rollout("create", "team/ears", "2.0.0", *also)
    assert made.out.startswith(
        "r-1 team/ears 2.0.0 with team/eyes 3.1.0 with team/nose 1.0.0 to every device: building"
    )
    asked = [(one.model, one.version) for one in service.requests[-1].together]
    assert asked == [("team/eyes", "3.1.0"), ("team/nose", "1.0.0")]
    document = rollout("create", "team/ears", "2.0.0", *also[:3], "--json").document
    assert document["together"] == [{"model": "team/eyes", "version": "3.1.0"}]
    assert "team/eyes 3.1.0" in rollout("list").out
    assert rollout("create", "team/ears", "2.0.0", "--with", "eyes", "3.1.0").code == 2


def test_a_group_has_a_row_for_each_model(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Status and plan of several models have a column that names them; a device counts once."""
    service.rollouts["r-7"] = [
        a_rollout(
            "running",
            a_rollout_device("gate-7"),
            a_rollout_device("gate-7", "fetching", model="team/eyes", version="3.1.0"),
            together=[wire.ModelVersion(model="team/eyes", version="3.1.0")],
        )
    ]
    said = rollout("status", "r-7").out
    assert "team/eyes" in said.splitlines()[-1]
    assert "MODEL" in said
    service.plan = a_plan()
    for at, model in enumerate(("team/ears", "team/eyes", "team/ears")):
        service.plan[-1].devices[at].device = "gate-7" if at < 2 else "gate-9"
        service.plan[-1].devices[at].model = model
    said = rollout("plan", "team/ears", "2.0.0", "--with", "team/eyes", "3.1.0").out
    assert "1 of 2 devices get team/ears 2.0.0 with team/eyes 3.1.0: 101.9 MB" in said


def test_status(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Status shows each device, what was unproved, and reasons."""
    service.rollouts["r-7"] = [
        a_rollout(
            "running",
            a_rollout_device(facts={"unproved": "true"}),
            a_rollout_device("gate-8", "failed", reason="ProofError", message="chunk 3 differs"),
            reason="one device is slow",
        )
    ]
    said = rollout("status", "r-7").out
    assert "committed (unproved)" in said
    assert "ProofError: chunk 3 differs" in said
    assert "running: one device is slow (1 committed, 1 failed)" in said
    document = rollout("status", "r-7", "--json").document
    assert document["failures"] == ["gate-8"]
    assert document["devices"][0]["facts"] == {"unproved": "true"}


def test_watch_until_it_succeeded(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Watching logs each change once and exits 0 where no device failed."""
    service.rollouts["r-7"] = [
        a_rollout("building"),
        a_rollout("running", a_rollout_device(state="fetching")),
        a_rollout("running", a_rollout_device(state="fetching")),
        a_rollout("done", a_rollout_device()),
    ]
    ran = rollout("watch", "r-7")
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "r-7: building",
        "gate-7: fetching 2.0.0 fp32",
        "r-7: running",
        "gate-7: committed 2.0.0 fp32",
        "r-7: done",
    ]
    assert "committed" in ran.out


@pytest.mark.parametrize(
    ("state", "device_state", "words"),
    [
        ("done", "failed", "failed on gate-7"),
        ("done", "rolled_back", "r-7 was rolled back on gate-7"),
        ("done", "refused", "never reached gate-7"),
        ("aborted", "committed", "was aborted"),
    ],
)
def test_watch_fails_the_pipeline(
    rollout: EdgeFleet, service: FleetInMemory, state: str, device_state: str, words: str
) -> None:
    """A rollout that failed anywhere exits 6, and --json still prints exactly one document."""
    service.rollouts["r-7"] = [a_rollout(state, a_rollout_device(state=device_state))]
    ran = rollout("watch", "r-7", "--json")
    assert ran.code == 6
    assert ran.document["succeeded"] is False
    assert words in ran.err
    assert rollout("watch", "r-7").code == 6


def test_failures_come_first(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Where a device failed, that is said before the table and at its top, and no bare "done"."""
    good, bad = a_rollout_device("gate-1"), a_rollout_device("gate-2", "failed")
    back = a_rollout_device("gate-3", "rolled_back", facts={"unproved": "true"})
    service.rollouts["r-7"] = [a_rollout("running"), a_rollout("done", good, bad, back)]
    ran = rollout("watch", "r-7")
    assert ran.code == 6
    assert ran.err.splitlines() == [
        "r-7: running",
        "gate-1: committed 2.0.0 fp32",
        "gate-2: failed 2.0.0 fp32",
        "gate-3: rolled_back 2.0.0 fp32",
        "edge-fleet: rollout r-7 failed on gate-2 and was rolled back on gate-3",
    ]
    assert 0 < ran.out.index("gate-2") < ran.out.index("gate-3") < ran.out.index("gate-1")


def test_watch_can_allow_refusals(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Where a cohort holds devices that no variant fits on purpose, they need not fail it."""
    refused = a_rollout_device("gate-8", "refused", artifact=b"", variant="", version="")
    service.rollouts["r-7"] = [a_rollout("done", a_rollout_device(), refused)]
    ran = rollout("watch", "r-7", "--allow-refused", "--json")
    assert ran.code == 0
    assert ran.document["refusals"] == ["gate-8"]


def test_watch_stops_at_its_time_limit(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """A rollout that takes too long exits 5, in one document."""
    service.rollouts["r-7"] = [a_rollout("running")]
    ran = rollout("watch", "r-7", "--timeout", "0.3", "--json")
    assert ran.code == 5
    assert ran.document["error"]["reason"] == "UnavailableError"


def test_watch_of_nothing(rollout: EdgeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout that is not there exits 7, and so does one of which nothing is said."""
    assert rollout("watch", "r-99").code == 7
    monkeypatch.setattr(Fleet, "rollout_watch", lambda *_arguments, **_named: iter(()))
    ran = rollout("watch", "r-7")
    assert ran.code == NotFoundError.exit_code
    assert "said nothing" in ran.err


def test_abort_and_undo(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Aborting and undoing answer with the rollout as it is now."""
    service.rollouts["r-1"] = [a_rollout("running", rollout="r-1")]
    assert "aborted" in rollout("abort", "r-1").out
    assert rollout("abort", "r-1", "--json").document["state"] == "aborted"
    assert rollout("undo", "r-1").out.startswith("r-2 ")
    assert rollout("undo", "r-1", "--json").document["undoes"] == "r-1"


def test_undo_of_a_first_version_says_what_it_takes_away(
    rollout: EdgeFleet, service: FleetInMemory
) -> None:
    """Where devices had nothing before, the answer names them, for people and as a document;
    once gone, the model is shown as removed."""
    back = [
        a_rollout_device("gate-7", "building", artifact=b"", version="", variant=""),
        a_rollout_device("gate-8", "building", version="1.0.0"),
    ]
    service.rollouts["r-1"] = [a_rollout("done", rollout="r-1")]
    service.undo = a_rollout("building", *back, rollout="r-2", undoes="r-1", version="")
    said = rollout("undo", "r-1").out
    assert "team/digits is taken away from gate-7: there was none before" in said
    assert "gate-8" not in said
    assert rollout("undo", "r-1", "--json").document["removals"] == ["gate-7"]
    gone = a_rollout_device("gate-7", artifact=b"", version="", facts={"removed": "true"})
    service.rollouts["r-2"] = [a_rollout("done", gone, rollout="r-2", undoes="r-1")]
    assert "committed (removed)" in rollout("status", "r-2").out


def test_list(rollout: EdgeFleet, service: FleetInMemory) -> None:
    """Rollouts are listed newest first, of one model or of all."""
    service.rollouts["r-1"] = [a_rollout("done", rollout="r-1")]
    service.rollouts["r-2"] = [a_rollout("running", rollout="r-2", undoes="r-1")]
    table = rollout("list").out
    assert table.index("r-2") < table.index("site=berlin")
    listed = rollout("list", "--model", "team/digits", "--json").document["rollouts"]
    assert [one["rollout"] for one in listed] == ["r-2", "r-1"]
    assert rollout("list", "--model", "team/other", "--json").document["rollouts"] == []
