"""Takes rollouts from ``building`` to ``running``: builds, assigns, wakes.

What is to be done stands in the database; a restart takes up what was still building.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from distributor import rollouts
from distributor.audit import Act, recorded
from distributor.catalog import find_artifacts, get_artifact
from distributor.devices import DeviceRecord, find_devices
from distributor.errors import NoVariantFitsError
from distributor.planning import ArtifactFacts, DeltaJob, History, jobs_once
from distributor.rollouts import Rollout, RolloutDevice, RolloutRequest, RowKey, Touched
from distributor.services.access import Permit
from distributor.services.wakeups import Wakeups
from distributor.services.ways import Way, Ways
from distributor.storage import Database
from edge_sdk.base import Digest, EdgeError, ModelName, RefusedError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One device that is to come to one artifact, or why it cannot (``refusal``)."""

    record: DeviceRecord
    model: ModelName
    target: ArtifactFacts | None
    held: tuple[ArtifactFacts, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What was found for one device; ``way`` none: nothing was looked for."""

    wanted: Wanted
    way: Way | None

    @property
    def key(self) -> RowKey:
        return self.wanted.record.device, self.wanted.model

    @property
    def obstacle(self) -> str:
        """Why the device cannot be brought there; empty where it can."""
        if self.way is None or self.wanted.target is None:
            return self.wanted.refusal
        if self.way.plan.feasible:
            return ""
        return self.way.plan.reason if self.way.error is None else self.way.error.message


Progress = Callable[[int, int], None]


class RolloutDriver:
    """Runs every rollout of this process. One task for each that is building."""

    def __init__(self, database: Database, ways: Ways, wakeups: Wakeups) -> None:
        self._database = database
        self._ways = ways
        self._wakeups = wakeups
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def resume(self) -> None:
        """Takes up the rollouts that the last process left building."""
        self.tell(await self._database.write(rollouts.leave_all, at_ms=now_ms()))
        for rollout in await self._database.read(rollouts.unfinished_builds):
            self._start(rollout)

    async def create(self, request: RolloutRequest, *, permit: Permit) -> Rollout:
        at_ms = now_ms()

        def act(made: Rollout) -> Act:
            facts = {"model": str(made.model), "version": made.version}
            facts["devices"] = str(len({row.device for row in made.devices}))
            facts |= {f"with {model}": version for model, version in made.together}
            return permit.act("rollout.create", made.rollout, facts, at_ms=at_ms)

        create = recorded(rollouts.create, act)
        rollout = await self._database.write(create, request, at_ms=at_ms, by=permit.by)
        self._start(rollout.rollout)
        return rollout

    async def undo(self, rollout: str, *, permit: Permit) -> Rollout:
        at_ms = now_ms()

        def act(made: Rollout) -> Act:
            return permit.act("rollout.undo", rollout, {"by": made.rollout}, at_ms=at_ms)

        undo = recorded(rollouts.undo, act)
        back = await self._database.write(undo, rollout, at_ms=at_ms, by=permit.by)
        self._start(back.rollout)
        return back

    async def abort(self, rollout: str, *, permit: Permit) -> Rollout:
        at_ms = now_ms()

        def act(touched: Touched) -> Act | None:  # none: it was aborted before
            return permit.act("rollout.abort", rollout, at_ms=at_ms) if touched.rollouts else None

        abort = recorded(rollouts.abort, act)
        touched = await self._database.write(abort, rollout, at_ms=at_ms, by=permit.by)
        self.tell(touched)
        task = self._tasks.get(rollout)
        if task is not None:
            task.cancel()
        return await self._database.read(rollouts.get_rollout, rollout)

    async def dry_run(self, request: RolloutRequest, progress: Progress) -> list[Planned]:
        """What a rollout would do: its deltas are built, nothing is assigned."""
        planned = await self._plan(await self._database.read(_wanted_by, request), progress)
        return _all_or_none(planned)

    def tell(self, touched: Touched) -> None:
        """Wakes whoever watches what changed."""
        self._wakeups.wake(f"rollout {one}" for one in touched.rollouts)
        self._wakeups.wake(f"device {one}" for one in touched.devices)

    async def close(self) -> None:
        """Stops; the next process takes up what is still building."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, rollout: str) -> None:
        task = asyncio.create_task(self._run(rollout))
        self._tasks[rollout] = task
        task.add_done_callback(lambda _: self._tasks.pop(rollout, None))

    async def _run(self, rollout: str) -> None:
        try:
            await self._build_and_assign(rollout)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect must not leave a rollout for ever
            _LOG.exception("rollout %s could not be built", rollout)
            await self._give_up(rollout, error)

    async def _give_up(self, rollout: str, error: Exception) -> None:
        """Fails what is still building: a rollout always comes to an end."""
        one = await self._database.read(rollouts.get_rollout, rollout)
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        message = f"a defect of ours ended the build: {type(error).__name__}: {error}"
        rows = {
            row.key: replace(row, state="failed", reason="Defect", message=message)
            for row in one.devices
            if not row.final
        }
        self.tell(await self._database.write(rollouts.assign_built, rollout, rows, at_ms=now_ms()))

    async def _build_and_assign(self, rollout: str) -> None:
        one, wanted = await self._database.read(_still_wanted, rollout)
        counted: set[asyncio.Task[None]] = set()

        def progress(done: int, total: int) -> None:
            task = asyncio.create_task(self._note_built(rollout, done, total))
            counted.add(task)
            task.add_done_callback(counted.discard)

        planned = await self._plan(wanted, progress)
        await asyncio.gather(*counted)
        rows = {row.key: row for row in one.devices}
        built = {each.key: _row_after(rows[each.key], each) for each in planned}
        touched = await self._database.write(rollouts.assign_built, rollout, built, at_ms=now_ms())
        self.tell(touched)

    async def _note_built(self, rollout: str, done: int, total: int) -> None:
        await self._database.write(rollouts.note_built, rollout, done=done, total=total)
        self.tell(Touched(rollouts=frozenset([rollout])))

    async def _plan(self, wanted: Sequence[Wanted], progress: Progress) -> list[Planned]:
        """Builds each delta once, then finds each device's way."""
        jobs = await self._jobs(wanted)
        failed = await self._build_all(jobs_once(job for own in jobs for job in own), progress)
        planned = []
        for one, own in zip(wanted, jobs, strict=True):
            way = None
            if one.target is not None:
                plan = await self._ways.choose(one.record.facts, one.held, one.target)
                errors = [failed[job] for job in own if job in failed]
                way = Way(plan=plan, error=errors[0] if errors and not plan.feasible else None)
            planned.append(Planned(wanted=one, way=way))
        return planned

    async def _jobs(self, wanted: Sequence[Wanted]) -> list[tuple[DeltaJob, ...]]:
        """Of each device; what is read of the catalog is the same for all that hold the same."""
        histories: dict[tuple[Digest, tuple[Digest, ...]], History] = {}
        found: list[tuple[DeltaJob, ...]] = []
        for one in wanted:
            if one.target is None:
                found.append(())
                continue
            key = (one.target.artifact, tuple(facts.artifact for facts in one.held))
            if key not in histories:
                histories[key] = await self._ways.history(one.held, one.target)
            found.append(self._ways.jobs(one.record.facts, one.held, one.target, histories[key]))
        return found

    async def _build_all(
        self, jobs: Sequence[DeltaJob], progress: Progress
    ) -> dict[DeltaJob, EdgeError]:
        """Builds all, as many at a time as there are workers; returns those that failed."""
        progress(0, len(jobs))
        failed: dict[DeltaJob, EdgeError] = {}
        done = 0

        async def build(job: DeltaJob) -> None:
            nonlocal done
            try:
                await self._ways.builder.build(job)
            except EdgeError as error:
                _LOG.warning("a delta could not be built: %s", error.message)
                failed[job] = error
            done += 1
            progress(done, len(jobs))

        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(build(job))
        return failed


def now_ms() -> int:
    return int(time.time() * 1000)


def _row_after(row: RolloutDevice, planned: Planned) -> RolloutDevice:
    """A device's row once its way was looked for: with its bytes, or final with a reason."""
    if planned.way is None:
        return row
    plan, error = planned.way.plan, planned.way.error
    if plan.feasible:
        return replace(row, wire_bytes=plan.wire_bytes, whole_bytes=plan.whole_bytes)
    if error is not None:
        return replace(row, state="failed", reason=error.reason, message=error.message)
    return replace(row, state="refused", reason=RefusedError.__name__, message=plan.reason)


def _all_or_none(planned: Sequence[Planned]) -> list[Planned]:
    """What was found for devices, where what keeps back one model of a group keeps back all."""
    lost: dict[str, str] = {}
    for one in planned:
        target = one.wanted.target
        if target is not None and one.obstacle:
            why = rollouts.because_of(target.model, target.version, one.obstacle)
            lost.setdefault(one.wanted.record.device, why)
    return [
        one if one.obstacle or device not in lost else _without(one, lost[device])
        for one in planned
        if (device := one.wanted.record.device)
    ]


def _without(one: Planned, refusal: str) -> Planned:
    return Planned(wanted=replace(one.wanted, target=None, refusal=refusal), way=None)


def _still_wanted(connection: Connection, rollout: str) -> tuple[Rollout, list[Wanted]]:
    """A rollout, and its devices that are to be given something."""
    one = rollouts.get_rollout(connection, rollout)
    going = [row for row in one.devices if not row.final]
    records = find_devices(connection, {row.device for row in going})
    by_name = {record.device: record for record in records}
    found = []
    for row in going:
        if row.artifact is not None:
            target = get_artifact(connection, row.artifact).facts()
            found.append(_wanted(connection, by_name[row.device], target))
    return one, found


def _wanted_by(connection: Connection, request: RolloutRequest) -> list[Wanted]:
    variants = rollouts.variants_wanted(connection, request)
    found = []
    for record in rollouts.choose_devices(connection, request.cohort):
        for one in rollouts.resolve_together(connection, record, variants):
            if one.variant is None:
                reason = f"{NoVariantFitsError.__name__}: {one.refusal}"
                found.append(Wanted(record=record, model=one.model, target=None, refusal=reason))
            else:
                found.append(_wanted(connection, record, one.variant))
    for model in variants:
        chosen = [one.target for one in found if one.model == model and one.target is not None]
        coming = {(one.artifact, str(one.version), one.variant) for one in chosen}
        rollouts.check_allowed(connection, model, coming)
    return found


def _wanted(connection: Connection, record: DeviceRecord, target: ArtifactFacts) -> Wanted:
    held = find_artifacts(connection, record.held)
    return Wanted(
        record=record,
        model=target.model,
        target=target,
        held=tuple(held[one].facts() for one in sorted(held)),
    )
