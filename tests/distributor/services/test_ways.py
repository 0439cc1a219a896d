"""The way from what a device holds to a target: built, measured, chosen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from distributor.builds import Builder
from distributor.catalog import CatalogDelta, add_delta
from distributor.errors import BeingBuiltError, BuildFailedError
from distributor.planning import ArtifactFacts, DeltaJob
from distributor.services.ways import Ways
from distributor.storage import Blobs
from edge_sdk.base import Digest, EdgeError, ProofError, RefusedError
from edge_sdk.delta import FORMAT_VERSION
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.catalog import AT_MS, Catalog, device_facts, open_catalog

FIRST = make_artifact({"m.bin": b"one"})
SECOND = make_artifact({"m.bin": b"two"}, version="2.0.0", parent="1.0.0")


class ScriptedBuilder(Builder):
    """Builds nothing: each job succeeds, fails or never ends, as the test says."""

    capability = f"v{FORMAT_VERSION} literal 1024"

    def __init__(self, catalog: Catalog, folder: Path, outcomes: dict[bool, object]) -> None:
        super().__init__(catalog.database, Blobs(folder / "o"), folder / "w", workers=1)
        self._catalog = catalog
        self._outcomes = outcomes  # by whether the job has a source

    async def build(self, job: DeltaJob) -> CatalogDelta:
        outcome = self._outcomes[job.source is not None]
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            await asyncio.Event().wait()
        delta = CatalogDelta(
            source=job.source,
            target=job.target,
            capability=self.capability,
            delta=Digest.of(f"{job.source}".encode()),
            size_bytes=int(str(outcome)),
            decoder_memory_bytes=1,
            methods=("literal",),
            build_ms=1,
            built_ms=AT_MS,
        )
        return self._catalog.write(add_delta, delta)

    async def settled(self, job: DeltaJob) -> bool:
        return self._outcomes[job.source is not None] is not None


def _facts(artifact: ArtifactBytes) -> ArtifactFacts:
    return ArtifactFacts.of(artifact.artifact, artifact.manifest)


def _find(
    tmp_path: Path, outcomes: dict[bool, object], *, wait_s: float = 5.0, **facts: object
) -> tuple[Digest | None, int]:
    """Source and bytes of the first step that a device holding FIRST would take to SECOND."""
    with open_catalog(tmp_path) as catalog:
        for artifact in (FIRST, SECOND):
            catalog.add(artifact)
        ways = Ways(catalog.database, ScriptedBuilder(catalog, tmp_path, outcomes))
        device = device_facts("cam-1", **facts)
        plan = asyncio.run(ways.find_soon(device, (_facts(FIRST),), _facts(SECOND), wait_s=wait_s))
        return plan.source, plan.wire_bytes


def test_the_cheaper_way_is_taken(tmp_path: Path) -> None:
    """The delta where it is smaller, the whole where that is."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert _find(tmp_path / "a", {True: 10, False: 100}) == (FIRST.artifact, 10)
    assert _find(tmp_path / "b", {True: 100, False: 10}) == (None, 10)


def test_a_delta_that_cannot_be_built_leaves_the_whole(tmp_path: Path) -> None:
    """One failed build does not keep a device from its version."""
    assert _find(tmp_path, {True: ProofError("rotten"), False: 100}) == (None, 100)


def test_nothing_can_be_built(tmp_path: Path) -> None:
    """Where every build fails the device hears why."""
    error = ProofError("rotten")
    with pytest.raises(BuildFailedError, match="rotten") as failed:
        _find(tmp_path, {True: error, False: error})
    assert failed.value.facts["cause"] == "ProofError"


def test_a_defect_is_not_hidden(tmp_path: Path) -> None:
    """An error that is not ours passes through."""
    with pytest.raises(LookupError):
        _find(tmp_path, {True: LookupError("a defect"), False: 1})


def test_who_cannot_wait(tmp_path: Path) -> None:
    """A delta that is still being built means: ask again, also where the whole is there."""
    with pytest.raises(BeingBuiltError, match="being built"):
        _find(tmp_path, {True: None, False: 100}, wait_s=0.1)


def test_only_the_whole_is_missing(tmp_path: Path) -> None:
    """A delta that is there is used; the whole would only be compared with it."""
    assert _find(tmp_path, {True: 10, False: None}, wait_s=0.5) == (FIRST.artifact, 10)


def test_no_room(tmp_path: Path) -> None:
    """A device without disk for the target is refused, whatever is built."""
    with pytest.raises((RefusedError, EdgeError), match="bytes of disk"):
        _find(tmp_path, {True: 10, False: 100}, disk_free_bytes=1)


def test_a_delta_of_another_format_is_not_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delta that an older or newer release left in the catalog is offered only to devices
    that know its format."""
    monkeypatch.setattr(ScriptedBuilder, "capability", "v7 literal 1024")
    with pytest.raises(RefusedError, match="delta format 7"):
        _find(tmp_path, {True: 10, False: 100})


TAIL = (1, 2, 3, 6, 7, 8)  # versions that devices run far behind: too many for one delta each
LINE = [make_artifact({"m.bin": f"{n}".encode()}, version=f"{n}.0.0") for n in range(1, 21)]


class MeasuringBuilder(ScriptedBuilder):
    """Every delta is built at once, and costs what its distance would."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        super().__init__(catalog, folder, {})
        self.pairs: list[tuple[str, str]] = []

    async def build(self, job: DeltaJob) -> CatalogDelta:
        numbers = {one.artifact: number for number, one in enumerate(LINE, 1)}
        start = 0 if job.source is None else numbers[job.source]
        end = numbers[job.target]
        self.pairs.append((str(start), str(end)))
        self._outcomes = {True: round(100 * abs(end - start) ** 0.4), False: 700}
        return await super().build(job)


@pytest.mark.parametrize(
    ("source", "target", "devices", "built"),
    [
        (4, 20, 1, [("0", "20"), ("4", "5"), ("5", "20")]),
        (4, 20, 9, [("0", "20"), ("4", "20")]),
        (5, 20, 1, [("0", "20"), ("5", "20")]),
        (16, 20, 1, [("0", "20"), ("16", "20")]),
        (20, 3, 1, [("0", "3"), ("20", "3")]),
    ],
)
def test_few_that_are_far_behind_come_by_a_hub(
    tmp_path: Path, source: int, target: int, devices: int, built: list[tuple[str, str]]
) -> None:
    """A delta of its own for a version that many devices run, for a key, for one close by and
    for a way back; by the next key for few that are far behind."""
    with open_catalog(tmp_path) as catalog:
        for artifact in LINE:
            catalog.add(artifact)
        held, end = LINE[source - 1], LINE[target - 1]
        for number in TAIL:
            catalog.check_in(f"away-{number}", active=LINE[number - 1].artifact)
        for number in range(devices):
            catalog.check_in(f"cam-{number}", active=held.artifact)
        builder = MeasuringBuilder(catalog, tmp_path)
        ways = Ways(catalog.database, builder)
        device = device_facts("cam-0")
        plan = asyncio.run(ways.find_soon(device, (_facts(held),), _facts(end), wait_s=5.0))
        assert builder.pairs == built
        assert len(plan.steps) == len(built) - 1
        assert plan.source == held.artifact
        assert plan.steps[-1].target == end.artifact


def test_no_room_for_a_hub(tmp_path: Path) -> None:
    """A device whose disk takes the target but not a hub beside it gets the direct delta."""
    with open_catalog(tmp_path) as catalog:
        for artifact in LINE:
            catalog.add(artifact)
        for number in TAIL:
            catalog.check_in(f"away-{number}", active=LINE[number - 1].artifact)
        builder = MeasuringBuilder(catalog, tmp_path)
        ways = Ways(catalog.database, builder)
        size = len(LINE[19].files["m.bin"])
        for free, steps in ((10 * size, 2), (size, 1)):
            device = device_facts("cam-0", disk_free_bytes=free)
            plan = asyncio.run(
                ways.find_soon(device, (_facts(LINE[3]),), _facts(LINE[19]), wait_s=5.0)
            )
            assert len(plan.steps) == steps


def test_a_delta_that_is_there_is_used(tmp_path: Path) -> None:
    """One that was built while many devices ran its source stays the way when few are left."""
    with open_catalog(tmp_path) as catalog:
        for artifact in LINE:
            catalog.add(artifact)
        builder = MeasuringBuilder(catalog, tmp_path)
        ways = Ways(catalog.database, builder)
        held, end = (_facts(LINE[3]),), _facts(LINE[19])
        for number in range(9):
            catalog.check_in(f"cam-{number}", active=LINE[3].artifact)
        asyncio.run(ways.find_soon(device_facts("cam-0"), held, end, wait_s=5.0))
        for number in range(1, 9):
            catalog.check_in(f"cam-{number}", active=LINE[19].artifact)
        builder.pairs.clear()
        plan = asyncio.run(ways.find_soon(device_facts("cam-0"), held, end, wait_s=5.0))
        assert len(plan.steps) == 1
        assert set(builder.pairs) == {("0", "20"), ("4", "20")}
