"""What operators order: rollouts, aborting, undoing, trying again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from distributor import devices, rollouts
from distributor.rollouts import Cohort, RolloutRequest
from edge_sdk.base import NotFoundError, RefusedError, UsageError, Version
from edge_sdk.manifest import Requirements
from tests.support.artifacts import make_artifact
from tests.support.catalog import AT_MS, MODEL, Catalog, open_catalog
from tests.support.thrown_out import throw_out


def _commit(one: Catalog, device: str, number: int) -> None:
    """The device runs what it was assigned, and says so."""
    assigned = one.assignment(device).models[0]
    one.report(device, one.event(device, number, "committed"))
    one.check_in(device, active=assigned.artifact, version=str(assigned.version))


def test_a_version_to_every_device(tmp_path: Path) -> None:
    """Each device gets a numbered assignment; the rollout is done when all have committed."""
    with open_catalog(tmp_path) as one:
        artifact = one.add_version("1.0.0")
        one.check_in("a")
        one.check_in("b")
        made = one.roll_out("1.0.0")
        assert (made.rollout, made.state) == ("r1", "running")
        assigned = one.assignment("a")
        assert assigned.counter == 1
        assert [each.artifact for each in assigned.models] == [artifact]
        assert (assigned.models[0].rollout, assigned.models[0].attempt) == ("r1", 1)
        _commit(one, "a", 1)
        assert one.rollout("r1").state == "running"
        _commit(one, "b", 1)
        assert one.rollout("r1").state == "done"


def test_the_whole_desired_state(tmp_path: Path) -> None:
    """A second model joins the first in the next assignment."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        other = make_artifact({"m": b"other"}, model="team/letters")
        one.add(other)
        one.check_in("a")
        one.roll_out("1.0.0")
        request = RolloutRequest(
            model=other.manifest.model, version=Version.parse("1.0.0"), cohort=Cohort()
        )
        one.assign(one.write(rollouts.create, request, at_ms=AT_MS, by="alice"))
        assigned = one.assignment("a")
        assert assigned.counter == 2
        assert [str(each.model) for each in assigned.models] == ["team/digits", "team/letters"]


def test_cohorts(tmp_path: Path) -> None:
    """Names and selectors choose devices; an unknown name or an empty cohort is refused."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a", labels={"site": "berlin"})
        one.check_in("b", labels={"site": "rome"})
        assert set(one.states(one.roll_out("1.0.0", selector="site=rome").rollout)) == {"b"}
        assert set(one.states(one.roll_out("1.0.0", "a").rollout)) == {"a"}
        with pytest.raises(NotFoundError, match="ghost"):
            one.roll_out("1.0.0", "a", "ghost")
        with pytest.raises(NotFoundError, match="no device matches"):
            one.roll_out("1.0.0", selector="site=oslo")
        with pytest.raises(UsageError):
            one.roll_out("1.0.0", selector="site=,,")
        with pytest.raises(NotFoundError, match="not published"):
            one.roll_out("9.0.0")


def test_a_device_that_no_variant_fits_is_refused(tmp_path: Path) -> None:
    """It is named with the reason and gets no assignment; the others do."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0", requires=Requirements(architectures=("aarch64",)))
        one.check_in("arm", architecture="aarch64")
        one.check_in("pc", architecture="x86_64")
        made = one.roll_out("1.0.0")
        row = next(row for row in made.devices if row.device == "pc")
        assert (row.state, row.reason) == ("refused", "NoVariantFitsError")
        assert "needs architecture aarch64" in row.message
        assert one.counter("pc") == 0
        assert one.counter("arm") == 1


def test_refused_alone_ends_the_rollout(tmp_path: Path) -> None:
    """A rollout in which nobody gets anything is done at once."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0", requires=Requirements(architectures=("aarch64",)))
        one.check_in("pc", architecture="x86_64")
        assert one.roll_out("1.0.0").state == "done"


def test_who_runs_it_already_is_left_alone(tmp_path: Path) -> None:
    """A device that was assigned the artifact and runs it is committed from the start."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        one.roll_out("1.0.0")
        _commit(one, "a", 1)
        again = one.roll_out("1.0.0")
        assert (again.state, one.states(again.rollout)) == ("done", {"a": "committed"})
        assert one.counter("a") == 1


def test_memory_in_use_counts(tmp_path: Path) -> None:
    """What other assigned models ask for is not there for this one."""
    with open_catalog(tmp_path) as one:
        other = make_artifact(
            {"m": b"other"}, model="team/letters", requires=Requirements(memory_bytes=80)
        )
        one.add(other)
        one.add_version("1.0.0", requires=Requirements(memory_bytes=50))
        one.check_in("a", memory_bytes=100)
        request = RolloutRequest(
            model=other.manifest.model, version=Version.parse("1.0.0"), cohort=Cohort()
        )
        one.assign(one.write(rollouts.create, request, at_ms=AT_MS, by="alice"))
        row = one.roll_out("1.0.0").devices[0]
        assert row.state == "refused"
        assert "80 bytes of them taken by other models" in row.message


def test_c40_a_later_rollout_supersedes(tmp_path: Path) -> None:
    """What was under way is superseded and its rollout ends; a late event changes nothing."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.add_version("2.0.0")
        one.check_in("a")
        first = one.roll_out("1.0.0").rollout
        late = one.event("a", 1, "committed")
        second = one.roll_out("2.0.0").rollout
        assert one.states(first) == {"a": "superseded"}
        assert one.rollout(first).state == "done"
        one.report("a", late)
        assert one.states(first) == {"a": "superseded"}
        assert one.states(second) == {"a": "assigned"}
        assert one.assignment("a").counter == 2


def test_an_earlier_rollout_that_is_built_later_gives_way(tmp_path: Path) -> None:
    """The order of creation decides, not which deltas were built first."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.add_version("2.0.0")
        one.check_in("a")
        made = [
            one.write(
                rollouts.create,
                RolloutRequest(model=MODEL, version=Version.parse(version), cohort=Cohort()),
                at_ms=AT_MS,
                by="alice",
            )
            for version in ("1.0.0", "2.0.0")
        ]
        one.assign(made[1])
        one.assign(made[0])
        assert one.states(made[0].rollout) == {"a": "superseded"}
        assert str(one.assignment("a").models[0].version) == "2.0.0"


def test_abort_takes_back(tmp_path: Path) -> None:
    """Who committed stays; who did not goes back to what it had, by a higher number."""
    with open_catalog(tmp_path) as one:
        first = one.add_version("1.0.0")
        second = one.add_version("2.0.0")
        for device in ("a", "b"):
            one.check_in(device)
        one.roll_out("1.0.0")
        for device in ("a", "b"):
            _commit(one, device, 1)
        made = one.roll_out("2.0.0")
        _commit(one, "a", 2)
        touched = one.write(rollouts.abort, made.rollout, at_ms=AT_MS, by="alice")
        assert touched.devices == {"b"}
        after = one.rollout(made.rollout)
        assert (after.state, after.reason) == ("aborted", "aborted by alice")
        assert one.states(made.rollout) == {"a": "committed", "b": "recalled"}
        assert next(row for row in after.devices if row.device == "b").message == (
            "goes back to 1.0.0 fp32"
        )
        assert one.assignment("a").models[0].artifact == second
        assert one.assignment("b").models[0].artifact == first
        assert one.assignment("b").counter == 3


def test_abort_of_a_first_version_takes_the_model_away(tmp_path: Path) -> None:
    """Who had nothing before goes back to nothing."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        one.write(rollouts.abort, made.rollout, at_ms=AT_MS, by="alice")
        assert one.assignment("a").models == ()
        assert one.assignment("a").counter == 2


def test_abort_while_building(tmp_path: Path) -> None:
    """Nothing is assigned any more, even where the deltas are built in the end."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        request = RolloutRequest(model=MODEL, version=Version.parse("1.0.0"), cohort=Cohort())
        made = one.write(rollouts.create, request, at_ms=AT_MS, by="alice")
        one.write(rollouts.abort, made.rollout, at_ms=AT_MS, by="alice")
        assert one.assign(made) == rollouts.Touched()
        assert one.counter("a") == 0
        assert one.rollout(made.rollout).devices[0].message == "was not assigned yet"


def test_abort_twice_and_too_late(tmp_path: Path) -> None:
    """A second abort changes nothing; one that is done is refused and says what to do."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        one.write(rollouts.abort, made.rollout, at_ms=AT_MS, by="alice")
        assert one.write(rollouts.abort, made.rollout, at_ms=AT_MS, by="bob") == rollouts.Touched()
        assert one.rollout(made.rollout).reason == "aborted by alice"
        again = one.roll_out("1.0.0", "a")
        _commit(one, "a", 1)
        with pytest.raises(RefusedError, match="rollout undo"):
            one.write(rollouts.abort, again.rollout, at_ms=AT_MS, by="alice")
        with pytest.raises(NotFoundError):
            one.write(rollouts.abort, "r99", at_ms=AT_MS, by="alice")


def test_undo_goes_back(tmp_path: Path) -> None:
    """Every device of the rollout is assigned what it had before; undoing that goes forth."""
    with open_catalog(tmp_path) as one:
        first = one.add_version("1.0.0")
        second = one.add_version("2.0.0")
        one.check_in("a")
        one.roll_out("1.0.0")
        _commit(one, "a", 1)
        made = one.roll_out("2.0.0")
        _commit(one, "a", 2)
        back = one.write(rollouts.undo, made.rollout, at_ms=AT_MS, by="alice")
        assert (back.undoes, back.version, back.state) == (made.rollout, "1.0.0", "building")
        one.assign(back)
        assert one.assignment("a").models[0].artifact == first
        assert one.assignment("a").models[0].attempt == 1
        _commit(one, "a", 3)
        assert one.rollout(back.rollout).state == "done"
        forth = one.write(rollouts.undo, back.rollout, at_ms=AT_MS, by="alice")
        one.assign(forth)
        assert one.assignment("a").models[0].artifact == second


def test_undo_of_a_first_version(tmp_path: Path) -> None:
    """The model is taken away; the device has arrived when it reports it no more."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        _commit(one, "a", 1)
        back = one.write(rollouts.undo, made.rollout, at_ms=AT_MS, by="alice")
        assert "is taken away" in back.devices[0].message
        one.assign(back)
        assert one.assignment("a").models == ()
        record = one.check_in("a")
        one.write(rollouts.settle, record, at_ms=AT_MS)
        after = one.rollout(back.rollout)
        assert (after.state, after.devices[0].state) == ("done", "committed")
        assert after.devices[0].facts == {"removed": "true"}


def test_nothing_to_undo(tmp_path: Path) -> None:
    """A rollout that a later one took over, or that is still building, cannot be undone."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.add_version("2.0.0")
        one.check_in("a")
        first = one.roll_out("1.0.0")
        one.roll_out("2.0.0")
        with pytest.raises(RefusedError, match="nothing to undo"):
            one.write(rollouts.undo, first.rollout, at_ms=AT_MS, by="alice")
        request = RolloutRequest(model=MODEL, version=Version.parse("1.0.0"), cohort=Cohort())
        building = one.write(rollouts.create, request, at_ms=AT_MS, by="alice")
        with pytest.raises(RefusedError, match="still building"):
            one.write(rollouts.undo, building.rollout, at_ms=AT_MS, by="alice")


def test_c30_only_retry_raises_the_attempt(tmp_path: Path) -> None:
    """The same artifact ordered again keeps its attempt number, unless the operator says retry."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        one.roll_out("1.0.0")
        one.report("a", one.event("a", 1, "failed", reason="GoldenMismatch"))
        one.roll_out("1.0.0")
        assert one.assignment("a").models[0].attempt == 1
        made = one.roll_out("1.0.0", retry=True)
        assert one.assignment("a").models[0].attempt == 2
        assert one.states(made.rollout) == {"a": "assigned"}


def test_rows_built_with_a_reason_are_final(tmp_path: Path) -> None:
    """A device whose delta could not be built is failed, with why, and not assigned."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        request = RolloutRequest(model=MODEL, version=Version.parse("1.0.0"), cohort=Cohort())
        made = one.write(rollouts.create, request, at_ms=AT_MS, by="alice")
        row = replace(made.devices[0], state="failed", reason="ProofError", message="rotten")
        one.write(rollouts.assign_built, made.rollout, {row.key: row}, at_ms=AT_MS)
        after = one.rollout(made.rollout)
        assert (after.state, after.devices[0].message) == ("done", "rotten")
        assert one.counter("a") == 0


def test_devices_that_were_thrown_out(tmp_path: Path) -> None:
    """They are in no cohort, which could never be done, and naming one says why."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a", labels={"site": "rome"})
        one.check_in("b", labels={"site": "rome"})
        throw_out(one, "b")
        assert set(one.states(one.roll_out("1.0.0").rollout)) == {"a"}
        assert set(one.states(one.roll_out("1.0.0", selector="site=rome").rollout)) == {"a"}
        with pytest.raises(RefusedError, match="b is revoked"):
            one.roll_out("1.0.0", "a", "b")


def test_choosing_shows_records(tmp_path: Path) -> None:
    """A cohort without names and selector is every device, by name."""
    with open_catalog(tmp_path) as one:
        with pytest.raises(NotFoundError, match="no device has checked in here yet"):
            one.read(rollouts.choose_devices, Cohort())
        one.check_in("b")
        one.check_in("a")
        found = one.read(rollouts.choose_devices, Cohort())
        assert found == one.read(devices.list_devices)
