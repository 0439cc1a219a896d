"""Several models in one rollout: each device gets all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distributor import rollouts
from distributor.devices import CheckIn, ModelState, record_check_in
from distributor.rollouts import Cohort, Rollout, RolloutRequest
from distributor.rollouts.together import all_or_none, by_device
from edge_sdk.base import ModelName, NotFoundError, RefusedError, UsageError, Version
from edge_sdk.manifest import Requirements
from tests.support.artifacts import make_artifact
from tests.support.catalog import AT_MS, Catalog, device_facts, open_catalog

EARS, EYES, NOSE = (ModelName.parse(f"team/{name}") for name in ("ears", "eyes", "nose"))
ARM = Requirements(architectures=("aarch64",))


class Scene:
    """Devices that run, or do not run, what they are assigned of ears, eyes and nose."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.numbers: dict[str, int] = {}

    def add(self, model: ModelName, version: str, **facts: Any) -> None:
        data = {"m.bin": f"{model} {version}".encode()}
        assert self.catalog.add(make_artifact(data, model=str(model), version=version, **facts))

    def create(self, model: ModelName, version: str, **also: str) -> Rollout:
        together = tuple(
            (ModelName.parse(f"team/{name}"), Version.parse(its)) for name, its in also.items()
        )
        request = RolloutRequest(
            model=model, version=Version.parse(version), cohort=Cohort(), together=together
        )
        return self.catalog.write(rollouts.create, request, at_ms=AT_MS, by="alice")

    def roll_out(self, model: ModelName, version: str, **also: str) -> str:
        made = self.create(model, version, **also)
        self.catalog.assign(made)
        return made.rollout

    def check_in(self, device: str, **facts: Any) -> None:
        self.catalog.check_in(device, **facts)

    def says(self, device: str, model: ModelName, state: str, **facts: Any) -> None:
        """An event about what is assigned of ``model``."""
        entry = next(one for one in self.catalog.assignment(device).models if one.model == model)
        number = self.numbers[device] = self.numbers.get(device, 0) + 1
        about = {
            "model": str(model),
            "version": str(entry.version),
            "artifact": entry.artifact,
            "rollout": entry.rollout,
            "attempt": entry.attempt,
        }
        event = self.catalog.event(device, number, state, **(about | facts))
        self.catalog.report(device, event)

    def arrive(self, device: str, *models: ModelName) -> None:
        for model in models:
            self.says(device, model, "committed")

    def rows(self, rollout: str) -> dict[tuple[str, str], str]:
        return {
            (row.device, row.model.text.removeprefix("team/")): row.state
            for row in self.catalog.rollout(rollout).devices
        }

    def versions(self, device: str) -> str:
        """What is assigned, and what of it is a group."""
        assignment = self.catalog.assignment(device)
        models = " ".join(f"{one.model}={one.version}" for one in assignment.models)
        groups = " ".join("+".join(map(str, group)) for group in assignment.groups)
        return f"{models} [{groups}]".replace("team/", "")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with open_catalog(tmp_path) as catalog:
        one = Scene(catalog)
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            for model in (EARS, EYES, NOSE):
                one.add(model, version)
        yield one


def test_one_assignment_for_all(scene: Scene) -> None:
    """All models and their group come by one new assignment; the rollout is done with the last
    of its rows, and is found by each of its models."""
    scene.check_in("a")
    made = scene.roll_out(EYES, "1.0.0", ears="2.0.0")
    assert scene.versions("a") == "ears=2.0.0 eyes=1.0.0 [ears+eyes]"
    assert scene.catalog.counter("a") == 1
    scene.arrive("a", EARS)
    assert scene.catalog.rollout(made).state == "running"
    scene.arrive("a", EYES)
    found = scene.catalog.rollout(made)
    assert (found.state, found.models, found.version) == ("done", (EYES, EARS), "1.0.0")
    assert found.together == ((EARS, "2.0.0"),)
    for model in (EARS, EYES):
        (listed,) = scene.catalog.read(rollouts.list_rollouts, model)
        assert listed.together == found.together
    assert scene.catalog.read(rollouts.list_rollouts, NOSE) == []
    assert set(scene.catalog.read(rollouts.models_of, made)) == {EARS, EYES}
    targets = {row.artifact for row in found.devices}
    assert scene.catalog.read(rollouts.newest_targets) == targets
    with pytest.raises(NotFoundError):
        scene.catalog.read(rollouts.models_of, "r9")


def test_a_model_is_named_once(scene: Scene) -> None:
    """Two versions of one model cannot come together, nor can more models than fit anywhere;
    one that nobody published ends it all."""
    scene.check_in("a")
    with pytest.raises(UsageError, match="once"):
        scene.create(EARS, "1.0.0", ears="2.0.0")
    with pytest.raises(UsageError, match="at most 16"):
        scene.create(EARS, "1.0.0", **{f"m{number}": "1.0.0" for number in range(16)})
    with pytest.raises(NotFoundError):
        scene.create(EARS, "1.0.0", eyes="9.0.0")
    assert scene.catalog.read(rollouts.list_rollouts, None) == []


def test_who_one_of_them_does_not_fit_gets_none(scene: Scene) -> None:
    """The device is refused with the reason in each row, and the others get all."""
    scene.add(EYES, "4.0.0", requires=ARM)
    scene.check_in("arm", architecture="aarch64")
    scene.check_in("pc", architecture="x86_64")
    made = scene.roll_out(EARS, "1.0.0", eyes="4.0.0")
    refused = {row.model: row for row in scene.catalog.rollout(made).devices if row.device == "pc"}
    assert {row.state for row in refused.values()} == {"refused"}
    assert {row.reason for row in refused.values()} == {"NoVariantFitsError"}
    assert {row.artifact for row in refused.values()} == {None}
    assert "needs architecture aarch64" in refused[EYES].message
    assert refused[EARS].message.startswith("team/eyes 4.0.0, of the same group: ")
    assert scene.catalog.counter("pc") == 0
    assert scene.versions("arm") == "ears=1.0.0 eyes=4.0.0 [ears+eyes]"


def test_all_are_loaded_at_the_same_time(scene: Scene) -> None:
    """What each of them needs by itself is there, but not what they need together."""
    for model in (EARS, EYES):
        scene.add(model, "5.0.0", requires=Requirements(memory_bytes=60))
    scene.check_in("a", memory_bytes=100)
    made = scene.roll_out(EARS, "5.0.0", eyes="5.0.0")
    assert set(scene.rows(made).values()) == {"refused"}
    rows = {row.model: row for row in scene.catalog.rollout(made).devices}
    assert "60 bytes of them taken by other models" in rows[EYES].message
    alone = scene.roll_out(EARS, "5.0.0")
    assert scene.rows(alone) == {("a", "ears"): "assigned"}


def test_what_cannot_be_built_keeps_the_others(scene: Scene) -> None:
    """Where one of a device's rows ends with the build, all of them end, with its reason."""
    scene.check_in("a")
    scene.check_in("b")
    made = scene.create(EARS, "1.0.0", eyes="1.0.0")
    rows = {row.key: row for row in made.devices}
    rows["a", EYES] = replace(rows["a", EYES], state="failed", reason="ProofError", message="bad")
    scene.catalog.write(rollouts.assign_built, made.rollout, rows, at_ms=AT_MS)
    states = scene.rows(made.rollout)
    assert [states["a", "ears"], states["a", "eyes"]] == ["failed", "failed"]
    ears = next(row for row in scene.catalog.rollout(made.rollout).devices if row.model == EARS)
    assert (ears.reason, ears.message) == ("ProofError", "team/eyes 1.0.0, of the same group: bad")
    assert scene.catalog.counter("a") == 0
    assert scene.versions("b") == "ears=1.0.0 eyes=1.0.0 [ears+eyes]"


def test_rows_of_one_device_end_together() -> None:
    """Rows come by device; those of one device all go on, or end for the same reason."""
    row = rollouts.RolloutDevice(
        device="a", model=EARS, artifact=None, version="1.0.0", variant="", state="building",
        changed_ms=0,
    )  # fmt: skip
    eyes = replace(row, model=EYES)
    other = replace(row, device="b")
    assert list(by_device([row, eyes, other])) == [[row, eyes], [other]]
    assert all_or_none([row, eyes]) == [row, eyes]
    lost = replace(eyes, state="refused", reason="RefusedError", message="too little disk")
    ended = all_or_none([row, lost])
    assert [one.state for one in ended] == ["refused", "refused"]
    assert ended[0].message == "team/eyes 1.0.0, of the same group: too little disk"


def test_a_later_rollout_of_one_model_goes_within_the_group(scene: Scene) -> None:
    """Until all have arrived, what replaces one model waits for the others; the row that it
    replaces is superseded, the other goes on and ends by its own events."""
    scene.check_in("a")
    both = scene.roll_out(EARS, "2.0.0", eyes="2.0.0")
    scene.says("a", EYES, "failed", reason="GoldenMismatch")
    scene.says("a", EARS, "failed", reason="GroupFailedError")
    mended = scene.roll_out(EYES, "3.0.0")
    assert scene.versions("a") == "ears=2.0.0 eyes=3.0.0 [ears+eyes]"
    scene.arrive("a", EARS, EYES)
    assert scene.rows(both) == {("a", "ears"): "committed", ("a", "eyes"): "failed"}
    assert scene.rows(mended) == {("a", "eyes"): "committed"}
    scene.roll_out(EARS, "3.0.0")
    assert scene.versions("a") == "ears=3.0.0 eyes=3.0.0 []"


def test_a_later_rollout_on_the_way(scene: Scene) -> None:
    """What is under way of one model is superseded; of the other it goes on."""
    scene.check_in("a")
    both = scene.roll_out(EARS, "2.0.0", eyes="2.0.0")
    later = scene.roll_out(EARS, "3.0.0")
    assert scene.rows(both) == {("a", "ears"): "superseded", ("a", "eyes"): "assigned"}
    assert scene.versions("a") == "ears=3.0.0 eyes=2.0.0 [ears+eyes]"
    scene.arrive("a", EARS, EYES)
    assert [scene.catalog.rollout(one).state for one in (both, later)] == ["done", "done"]


def test_an_earlier_rollout_built_later_brings_nothing(scene: Scene) -> None:
    """A group of which one model was overtaken while it was built is not assigned by halves."""
    scene.check_in("a")
    slow = scene.create(EARS, "2.0.0", eyes="2.0.0")
    scene.roll_out(EYES, "3.0.0")
    scene.catalog.assign(slow)
    assert set(scene.rows(slow.rollout).values()) == {"superseded"}
    assert scene.versions("a") == "eyes=3.0.0 []"


def test_abort_takes_the_whole_group_back(scene: Scene) -> None:
    """Who has all of it keeps it; who has a part of it goes back with that part, too, by one
    assignment."""
    for device in ("a", "b"):
        scene.check_in(device)
    scene.roll_out(EARS, "1.0.0", eyes="1.0.0")
    for device in ("a", "b"):
        scene.arrive(device, EARS, EYES)
    made = scene.roll_out(EARS, "2.0.0", eyes="2.0.0")
    scene.arrive("a", EARS, EYES)
    scene.arrive("b", EARS)
    touched = scene.catalog.write(rollouts.abort, made, at_ms=AT_MS, by="alice")
    assert touched.devices == {"b"}
    assert scene.rows(made) == {
        ("a", "ears"): "committed",
        ("a", "eyes"): "committed",
        ("b", "ears"): "recalled",
        ("b", "eyes"): "recalled",
    }
    assert scene.versions("a") == "ears=2.0.0 eyes=2.0.0 [ears+eyes]"
    assert scene.versions("b") == "ears=1.0.0 eyes=1.0.0 [ears+eyes]"
    assert scene.catalog.counter("b") == 3


def test_undo_takes_the_whole_group_back(scene: Scene) -> None:
    """An undo is a rollout of a group again, also where one model goes away with it."""
    scene.check_in("a")
    scene.roll_out(EARS, "1.0.0")
    scene.arrive("a", EARS)
    made = scene.roll_out(EARS, "2.0.0", eyes="2.0.0", nose="2.0.0")
    scene.arrive("a", EARS, EYES, NOSE)
    back = scene.catalog.write(rollouts.undo, made, at_ms=AT_MS, by="alice")
    assert (back.version, back.together) == ("1.0.0", ((EYES, ""), (NOSE, "")))
    assert back.cohort.devices == ("a",)
    scene.catalog.assign(back)
    assert scene.versions("a") == "ears=1.0.0 []"
    forth = scene.catalog.write(rollouts.undo, back.rollout, at_ms=AT_MS, by="alice")
    scene.catalog.assign(forth)
    assert scene.versions("a") == "ears=2.0.0 eyes=2.0.0 nose=2.0.0 [ears+eyes+nose]"


def test_undo_leaves_alone_what_was_taken_over(scene: Scene) -> None:
    """A device on which a later rollout changed one model keeps the others, too."""
    scene.check_in("a")
    made = scene.roll_out(EARS, "1.0.0", eyes="1.0.0")
    scene.arrive("a", EARS, EYES)
    scene.roll_out(EYES, "2.0.0")
    with pytest.raises(RefusedError, match="nothing to undo"):
        scene.catalog.write(rollouts.undo, made, at_ms=AT_MS, by="alice")


def test_who_runs_it_all_is_told_of_the_group(scene: Scene) -> None:
    """A device that runs both versions already learns by an assignment that they belong
    together, and settles with its next check-in."""
    scene.check_in("a")
    scene.roll_out(EARS, "1.0.0")
    scene.roll_out(EYES, "1.0.0")
    scene.arrive("a", EARS, EYES)
    made = scene.roll_out(EARS, "1.0.0", eyes="1.0.0")
    assert scene.versions("a") == "ears=1.0.0 eyes=1.0.0 [ears+eyes]"
    said = CheckIn(
        facts=device_facts("a"),
        agent_version="0.1.0",
        accepted_counter=scene.catalog.counter("a"),
        held=(),
        models=tuple(
            ModelState(
                model=one.model, active=one.artifact, active_version=one.version, state="committed"
            )
            for one in scene.catalog.assignment("a").models
        ),
    )
    record = scene.catalog.write(record_check_in, said, at_ms=AT_MS)
    scene.catalog.write(rollouts.settle, record, at_ms=AT_MS)
    assert scene.catalog.rollout(made).state == "done"
