"""Stored deltas stay within their budget, and what goes takes nothing else along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from distributor import devices, rollouts
from distributor.builds import Builder
from distributor.catalog import (
    CatalogDelta,
    add_artifact,
    add_delta,
    delta_bytes,
    list_deltas,
    unknown_blobs,
)
from distributor.devices import CheckIn
from distributor.planning import DeltaJob
from distributor.rollouts import Cohort, RolloutRequest
from distributor.services.keeping import Keeper, shelves
from distributor.storage import Blobs
from edge_sdk.base import Digest, ResourceError, Version
from edge_sdk.delta import FORMAT_VERSION, METHODS
from tests.support.artifacts import ArtifactBytes, changed, make_artifact, noise
from tests.support.build_jobs import quota_of
from tests.support.catalog import AT_MS, MODEL, Catalog, device_facts, open_catalog, pretend_signed

BASE = noise(60_000, "keeping")
VERSIONS = [
    make_artifact({"m.bin": changed(BASE, 3_000 + number)}, version=f"{number}.0.0")
    for number in range(1, 5)
]
WHOLE_BYTES = 60_000  # noise: nothing of it compresses


class Place:
    """A catalog, its blobs and a builder within a budget."""

    def __init__(self, folder: Path, catalog: Catalog, budget_bytes: int) -> None:
        self.folder = folder
        self.catalog = catalog
        self.blobs = Blobs(folder / "objects")
        self.keeper = Keeper(catalog.database, self.blobs, budget_bytes=budget_bytes, asked_s=0)
        self.builder = Builder(
            catalog.database, self.blobs, folder / "work", workers=1, room=self.keeper
        )

    async def publish(self, artifact: ArtifactBytes) -> None:
        await self.store(
            {entry.digest: artifact.files[entry.path] for entry in artifact.manifest.files}
        )
        await self.catalog.database.write(
            add_artifact, artifact.document, artifact.manifest, at_ms=AT_MS, by="alice"
        )
        await self.catalog.database.write(pretend_signed, artifact)

    async def store(self, files: dict[Digest, bytes]) -> None:
        async def parts(data: bytes) -> AsyncIterator[bytes]:
            yield data

        async with self.blobs.stage() as staging:
            for digest, data in files.items():
                await staging.write(digest, parts(data))
            await staging.keep()

    def pairs(self) -> set[tuple[str, str]]:
        """Versions of all stored deltas, as the catalog has them; "" is from nothing."""
        names = {one.artifact: str(one.manifest.version)[0] for one in VERSIONS}
        found = self.catalog.read(list_deltas, list(names))
        return {
            ("" if one.source is None else names[one.source], names[one.target]) for one in found
        }

    def stored_bytes(self) -> int:
        return int(self.catalog.read(delta_bytes))

    def files(self) -> set[Digest]:
        return {Digest.parse(path.name) for path in (self.folder / "objects/blobs").glob("*/*")}


def job(source: int | None, target: int) -> DeltaJob:
    return DeltaJob(
        source=None if source is None else VERSIONS[source - 1].artifact,
        target=VERSIONS[target - 1].artifact,
        methods=tuple(sorted(METHODS)),
        memory_limit_bytes=64 << 20,
    )


def run(
    folder: Path, act: Callable[[Place], Coroutine[Any, Any, None]], *, budget_bytes: int = 0
) -> None:
    async def there() -> None:
        async with _place(folder, budget_bytes) as place:
            await act(place)

    asyncio.run(there())


@asynccontextmanager
async def _place(folder: Path, budget_bytes: int) -> AsyncIterator[Place]:
    with open_catalog(folder) as catalog:
        place = Place(folder, catalog, budget_bytes)
        try:
            for one in VERSIONS:
                await place.publish(one)
            yield place
        finally:
            await place.builder.close()


def test_the_budget_is_kept(tmp_path: Path) -> None:
    """However many deltas are asked for, those stored never exceed the budget; what went is
    out of catalog and store, and is built again for who asks again."""

    async def act(place: Place) -> None:
        first = await place.builder.build(job(None, 1))
        await place.builder.build(job(None, 2))
        await place.builder.build(job(None, 3))
        assert place.pairs() == {("", "2"), ("", "3")}
        assert place.stored_bytes() <= 2.5 * WHOLE_BYTES
        assert first.delta not in place.files()
        assert place.catalog.read(unknown_blobs, place.files()) == []
        again = await place.builder.build(job(None, 1))
        assert again.delta == first.delta
        assert await place.blobs.intact(first.delta)
        assert place.builder.builds_started == 4

    run(tmp_path, act, budget_bytes=int(2.5 * WHOLE_BYTES))


def test_what_a_rollout_needs_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A running rollout keeps its whole and its delta, even where the budget is too small for
    them, which is said; once it is over they go before others."""

    async def act(place: Place) -> None:
        _runs(place, "cam-1", VERSIONS[0])
        made = _rollout(place, "2.0.0")
        await place.builder.build(job(None, 2))
        await place.builder.build(job(1, 2))
        await place.builder.build(job(None, 3))
        await place.builder.build(job(None, 4))
        assert {("", "2"), ("1", "2")} <= place.pairs()
        assert place.pairs() == {("", "2"), ("1", "2"), ("", "4")}
        assert "take more than their budget" in caplog.text
        place.catalog.write(rollouts.abort, made, at_ms=AT_MS, by="alice")
        await place.keeper.make()
        assert place.stored_bytes() <= WHOLE_BYTES
        assert ("1", "2") in place.pairs()

    run(tmp_path, act, budget_bytes=WHOLE_BYTES)


def test_what_was_just_asked_for_stays(tmp_path: Path) -> None:
    """A plan of several deltas comes together also where the budget takes but one of them:
    none goes before whoever asked could fetch it."""

    async def act(place: Place) -> None:
        place.keeper = Keeper(place.catalog.database, place.blobs, budget_bytes=1)
        builder = Builder(
            place.catalog.database, place.blobs, tmp_path / "w", workers=1, room=place.keeper
        )
        try:
            await asyncio.gather(*(builder.build(job(*one)) for one in ((None, 2), (1, 2))))
        finally:
            await builder.close()
        assert place.pairs() == {("", "2"), ("1", "2")}
        assert set(place.keeper.asked()) == {
            (None, VERSIONS[1].artifact),
            (VERSIONS[0].artifact, VERSIONS[1].artifact),
        }
        ages_s = dict.fromkeys(place.keeper.asked(), 71.6)
        (shelf,) = place.catalog.read(shelves, MODEL, ages_s)
        assert {one.reasons[0] for one in shelf.kept} == {"asked for 72 s ago"}
        assert not any(one.could_go for one in shelf.kept)

    run(tmp_path, act)


def test_a_full_disk_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, what nobody needs goes and the delta is built; where nothing can
    go, the build fails as typed, and what is stored is as it was."""
    quota_of(
        tmp_path / "objects", len(VERSIONS) * WHOLE_BYTES + int(2.2 * WHOLE_BYTES), monkeypatch
    )

    async def act(place: Place) -> None:
        await place.builder.build(job(None, 1))
        await place.builder.build(job(None, 2))
        await place.builder.build(job(None, 3))
        assert place.pairs() == {("", "2"), ("", "3")}
        assert list((tmp_path / "work").iterdir()) == []
        _runs(place, "cam-1", VERSIONS[1])
        for version in ("2.0.0", "3.0.0"):
            _runs(place, f"cam-{version}", VERSIONS[0])
            _rollout(place, version, f"cam-{version}")
        before = place.files()
        with pytest.raises(ResourceError, match="no space"):
            await place.builder.build(job(None, 4))
        assert place.files() == before
        assert place.pairs() == {("", "2"), ("", "3")}

    run(tmp_path, act)


def test_short_memory_frees_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that lacks memory, not disk, takes nothing from the store."""
    from tests.support.build_jobs import out_of_memory

    async def act(place: Place) -> None:
        await place.builder.build(job(None, 1))
        monkeypatch.setattr("distributor.builds.builder.build_delta", out_of_memory)
        with pytest.raises(ResourceError, match="memory"):
            await place.builder.build(job(None, 2))
        assert place.pairs() == {("", "1")}
        assert place.builder.builds_started == 2

    run(tmp_path, act)


def test_killed_between_row_and_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process dies once the row is gone, the blob is one that no row speaks of: the
    next start removes it, and nothing is lost."""

    async def act(place: Place) -> None:
        whole = await place.builder.build(job(None, 1))
        with monkeypatch.context() as patch:

            async def dies(digests: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(place.blobs, "remove", dies)
            with pytest.raises(KeyboardInterrupt):
                await place.keeper.free(1)
        assert place.pairs() == set()
        assert whole.delta in place.files()
        assert place.catalog.read(unknown_blobs, place.files()) == [whole.delta]
        assert (await place.builder.build(job(None, 1))).delta == whole.delta
        assert place.catalog.read(unknown_blobs, place.files()) == []

    run(tmp_path, act)


def test_bytes_that_a_version_has_too_stay(tmp_path: Path) -> None:
    """A blob that is a delta and also a published file loses its delta, never its bytes."""

    async def act(place: Place) -> None:
        data = noise(5_000, "both")
        odd = make_artifact({"m.bin": data}, model="team/odd")
        await place.publish(odd)
        (entry,) = odd.manifest.files
        delta = CatalogDelta(
            source=None,
            target=VERSIONS[0].artifact,
            capability=f"v{FORMAT_VERSION} literal 1024",
            delta=entry.digest,
            size_bytes=len(data),
            decoder_memory_bytes=1,
            methods=("literal",),
            build_ms=1,
            built_ms=AT_MS,
        )
        await place.catalog.database.write(add_delta, delta)
        assert await place.keeper.free(1) == 0
        assert place.pairs() == set()
        assert await place.blobs.intact(entry.digest)
        assert place.catalog.read(unknown_blobs, place.files()) == []

    run(tmp_path, act)


def _runs(place: Place, device: str, artifact: ArtifactBytes) -> None:
    said = CheckIn(
        facts=device_facts(device),
        agent_version="0.1.0",
        accepted_counter=0,
        held=(artifact.artifact,),
        models=(
            devices.ModelState(
                model=MODEL,
                active=artifact.artifact,
                active_version=artifact.manifest.version,
                state="committed",
            ),
        ),
    )
    place.catalog.write(devices.record_check_in, said, at_ms=AT_MS)


def _rollout(place: Place, version: str, *names: str) -> str:
    request = RolloutRequest(
        model=MODEL, version=Version.parse(version), cohort=Cohort(devices=names)
    )
    made = place.catalog.write(rollouts.create, request, at_ms=AT_MS, by="alice")
    return str(made.rollout)
