"""From an artifact's name to its proved files on this device: plan, fetch, apply, read back.

Whatever goes wrong here is not the version's fault: it is tried again, from what is proved.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from device_agent.errors import SourceRottenError
from device_agent.fleet_link import PlanStep
from device_agent.store.partial import Partial
from device_agent.store.quota import room
from device_agent.updater import admit, prove
from device_agent.updater.apply import Application
from device_agent.updater.context import Context
from device_agent.updater.fetch import Transfer
from device_agent.updater.lifecycle import Event, State
from device_agent.updater.update import Update
from edge_sdk.base import (
    DeltaError,
    Digest,
    EdgeError,
    FormatError,
    ProofError,
    RefusedError,
    ResourceError,
    UnavailableError,
    WrongSourceError,
    explain_os_error,
)
from edge_sdk.manifest import Manifest
from edge_sdk.rpc.backoff import Backoff, retry_after_s

T = TypeVar("T")

_CUTS_IN_PLACE = 4  # a cut stream goes on where it was; after these the place is given up
_RETRIES_MAX = 12
_STEPS_MAX = 4  # a planner has no use for more than two
_PROOF_FAILURES_MAX = 4
_PROOF_FAILURES_OF_ONE_SOURCE = 2  # then the distributor's delta itself is suspected


class Deliverer:
    """Performs PLAN and FETCH for one update at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store
        self.backoff = Backoff(base_s=context.config.retry_base_s, cap_s=context.config.retry_cap_s)

    # -- plan ----------------------------------------------------------------------------

    def plan(self, update: Update) -> None:
        """Asks how to come to the artifact, unless every file of it is here."""
        if self._store.is_held(update.artifact):
            files = [entry.digest for entry in self._store.manifest(update.artifact).files]
            self._ask(update, lambda: prove.rotten(self._store, files), self._held_was_proved)
            return
        link = self._context.link
        if link is None:
            error = UnavailableError("no distributor is configured, and the artifact is not held")
            self._interrupted(update, error)
            return
        known = self._context.assigned()
        sources = [one for one in self._store.held() if one not in update.excluded]
        self._ask(
            update,
            lambda: self._believed(
                link.plan(
                    target=update.artifact,
                    sources=sources,
                    capabilities=self._context.capabilities,
                ),
                known,
            ),
            self._planned,
        )

    def _believed(
        self, steps: tuple[PlanStep, ...], known: Collection[Digest]
    ) -> tuple[PlanStep, ...]:
        """``steps``, where each leads to what its publisher signed: also those on the way.

        known: artifacts that an assignment was accepted for. Raises: TrustError.
        """
        gate = self._context.gate
        if gate is not None:
            gate.check_manifests(
                [step.target_manifest for step in steps if step.target not in known]
            )
        return steps

    def _held_was_proved(
        self, update: Update, rotten: tuple[Digest, ...] | None, error: EdgeError | None
    ) -> None:
        if rotten is None:
            self._interrupted(update, error or UnavailableError("the held files are unreadable"))
        elif rotten:
            self.put_aside(update, rotten)
            self.plan(update)
        else:
            update.manifest = self._store.manifest(update.artifact)
            try:
                self._admit(update, update.manifest, ())
            except (RefusedError, ResourceError) as refused:
                self._not_fitting(update, refused)
                return
            try:
                self._store.trees.build(update.artifact, update.manifest)
            except (EdgeError, OSError) as failed:
                self._interrupted(update, typed(failed))
                return
            update.read_back = True
            self._context.happen(update, Event.ALREADY_HELD, facts={"wire_bytes": "0"})

    def _planned(
        self, update: Update, steps: tuple[PlanStep, ...] | None, error: EdgeError | None
    ) -> None:
        if isinstance(error, RefusedError):
            self._not_fitting(update, error)  # asking again would be answered alike
            return
        if steps is None:
            self._interrupted(update, error or UnavailableError("no plan"))
            return
        try:
            self._check_chain(update, steps)
            manifests = [
                self._store.artifacts.put(step.target, step.target_manifest) for step in steps
            ]
            update.manifest = manifests[-1]
            targets = [step.target for step in steps]
            self._admit(update, manifests[-1], list(zip(targets, manifests, strict=True)))
        except (RefusedError, ResourceError) as refused:
            self._not_fitting(update, refused)
            return
        except (EdgeError, OSError) as wrong:
            self._interrupted(update, typed(wrong))
            return
        update.steps = steps
        update.passing = tuple(step.target for step in steps[:-1])
        wire = sum(step.delta_bytes for step in steps)
        source = steps[0].source
        facts = {"plan_bytes": str(wire), "source": "" if source is None else str(source)}
        self._context.happen(update, Event.PLAN_ARRIVED, facts=facts)

    def _check_chain(self, update: Update, steps: Sequence[PlanStep]) -> None:
        """Raises: FormatError where the steps do not lead from what is held to the artifact."""
        if len(steps) > _STEPS_MAX:
            raise FormatError(f"the distributor's plan has {len(steps)} steps: too many")
        at: Digest | None = None
        for number, step in enumerate(steps):
            fits = step.source == at if number else True
            if not fits or (number == 0 and step.source is not None and not self._usable(step)):
                raise FormatError("the distributor's plan builds on an artifact not held here")
            at = step.target
        if at != update.artifact:
            raise FormatError("the distributor's plan does not lead to the assigned artifact")

    def _usable(self, step: PlanStep) -> bool:
        return step.source is not None and self._store.is_held(step.source)

    def _admit(
        self, update: Update, manifest: Manifest, coming: Sequence[tuple[Digest, Manifest]]
    ) -> None:
        """Raises: RefusedError, ResourceError: known before the first byte travels."""
        config = self._context.config
        admit.check_name(manifest, update.model, update.version)
        admit.check_engine(manifest, self._context.capabilities)
        loaded = [
            self._store.manifest(slot.active)
            for slot in self._store.slots()
            if slot.active != update.artifact and self._store.is_held(slot.active)
        ]
        mapped = {model for model, one in config.models.items() if one.loading == "mapped"}
        admit.check_memory(manifest, loaded, self._context.capabilities.memory_bytes, mapped=mapped)
        needed = sum(self._disk_needed(target, one) for target, one in coming)
        for attempt in range(2):
            free = room(
                self._store,
                quota_bytes=config.disk_quota_bytes,
                reserve_bytes=config.disk_reserve_bytes,
            ).free_bytes
            if needed <= free or attempt:
                break
            self._context.collect()
        update.needed_bytes = needed if needed > free else 0
        admit.check_disk(manifest, needed, free)

    def _disk_needed(self, target: Digest, manifest: Manifest) -> int:
        files = {entry.digest: entry.size_bytes for entry in manifest.files}
        present = sum(size for digest, size in files.items() if self._store.blobs.has(digest))
        folder = self._store.partial_folder / str(target)
        present += sum(
            self._store.files.size_bytes(folder / name)
            for name in self._store.files.names(folder)
            if name.startswith("file.")
        )
        return admit.disk_bytes(manifest, present)

    def _not_fitting(self, update: Update, error: EdgeError) -> None:
        self._context.happen(update, Event.NOT_FITTING, error=error)

    # -- fetch ---------------------------------------------------------------------------

    def fetch(self, update: Update) -> None:
        """Begins, or goes on with, the first step whose target is not here."""
        step = next((one for one in update.steps if not self._store.is_held(one.target)), None)
        if step is None and update.state is State.PLANNED:
            self.plan(update)  # every file is here already, as part of other artifacts
            return
        if step is None:
            self._all_proved(update)
            return
        application = Application(
            self._store,
            step,
            self._store.manifest(step.target),
            memory_limit_bytes=self._context.config.decoder_memory_bytes,
        )
        update.application = application
        try:
            application.begin()
        except (EdgeError, OSError) as error:
            self._damaged(update, typed(error))
            return
        if update.state is State.PLANNED:
            self._context.happen(update, Event.FETCH_BEGAN)
        self._transfer(update)  # none, where that could not be written down

    def _transfer(self, update: Update) -> None:
        application, link = update.application, self._context.link
        if application is None or link is None:
            return
        if application.cursor.is_done:
            self._complete(update)
            return
        update.transfer = Transfer(
            self._context.loop,
            link,
            application.step.delta,
            application.cursor.left(),
            on_data=lambda transfer, data: self._on_data(update, transfer, data),
            on_end=lambda transfer, error: self._on_end(update, transfer, error),
        )

    def _on_data(self, update: Update, transfer: Transfer, data: bytes) -> None:
        application = update.application
        if update.transfer is not transfer or application is None:
            return
        update.wire_bytes += len(data)
        before = application.partial.chunks_proved
        try:
            application.feed(data)
        except (EdgeError, OSError) as error:
            self._damaged(update, typed(error))
            return
        if application.partial.chunks_proved > before:
            update.retries = 0
        if application.was_redirected:
            transfer.stop()
            self._transfer(update)

    def _on_end(self, update: Update, transfer: Transfer, error: EdgeError | None) -> None:
        application = update.application
        if update.transfer is not transfer or application is None:
            return
        update.transfer = None
        if error is None:
            self._complete(update)
        elif isinstance(error, UnavailableError) and update.retries < _CUTS_IN_PLACE:
            chance = random.random()  # noqa: S311 - jitter
            delay_s = self.backoff.delay_s(update.retries, chance, after=error)
            update.retries += 1
            try:
                application.partial.sync()
            except OSError as failed:
                self._interrupted(update, typed(failed))
                return
            update.timer = self._context.loop.later(delay_s, lambda: self._transfer(update))
        elif isinstance(error, (ProofError, DeltaError)):
            self._damaged(update, error)
        else:
            self._interrupted(update, error)

    # -- proof ---------------------------------------------------------------------------

    def _complete(self, update: Update) -> None:
        """Every byte was fed. Reads all files back before they get their names."""
        application = update.application
        assert application is not None
        update.transfer = None
        try:
            application.finish()
        except (EdgeError, OSError) as error:
            self._damaged(update, typed(error))
            return
        partial = application.partial
        self._ask(
            update,
            lambda: prove.read_back(partial, self._store),
            lambda same, good, error: self._was_read_back(same, partial, good, error),
        )

    def _was_read_back(
        self, update: Update, partial: Partial, good: int | None, error: EdgeError | None
    ) -> None:
        application = update.application
        if application is None or application.partial is not partial:
            return
        if good is None:
            self._interrupted(update, error or UnavailableError("cannot read back"))
            return
        if good < partial.chunks_total:
            damaged = [partial.entries[number].digest for number in sorted(partial.present)]
            partial.start_over(good)
            wrong = ProofError(f"chunk {good} of the target was changed on this device")
            self._prove_again(update, wrong, damaged)
            return
        try:
            partial.place()
            self._store.trees.build(application.step.target, application.manifest)
        except (EdgeError, OSError) as failed:
            self._interrupted(update, typed(failed))
            return
        partial.remove()
        application.close()
        update.application = None
        self.fetch(update)

    def _all_proved(self, update: Update) -> None:
        update.read_back = True
        facts = {"wire_bytes": str(update.wire_bytes)}
        self._context.happen(update, Event.PROOF_COMPLETE, facts=facts)

    def _damaged(self, update: Update, error: EdgeError) -> None:
        """Decoding or proving failed: was it what arrived, or what was built on?"""
        application = update.application
        assert application is not None
        if update.transfer is not None:
            update.transfer.stop()
            update.transfer = None
        files = application.source_files()
        try:
            application.partial.sync()
            if isinstance(error, (DeltaError, ProofError)):
                # Its header or index may be what lied: ask for them again as well.
                application.partial.drop_prefix(application.step.delta)
        except OSError as failed:
            error = typed(failed)
        application.close()
        if isinstance(error, ResourceError):
            self._interrupted(update, error)
            return
        self._prove_again(update, error, files)

    def _prove_again(self, update: Update, error: EdgeError, files: Sequence[Digest]) -> None:
        self._ask(
            update,
            lambda: prove.rotten(self._store, files),
            lambda same, rotten, failed: self._judge_damage(same, failed or error, rotten),
        )

    def _judge_damage(
        self, update: Update, error: EdgeError, rotten: tuple[Digest, ...] | None
    ) -> None:
        step = None if update.application is None else update.application.step
        update.application = None
        if rotten is None:  # the sources could not be read now: nothing was found out
            self._interrupted(update, error)
            return
        if rotten:
            self.put_aside(update, rotten)
            self._context.happen(update, Event.PLAN_UNUSABLE)
            return
        update.proof_failures += 1
        if update.proof_failures >= _PROOF_FAILURES_MAX:
            update.proof_failures = 0
            update.excluded.clear()
            self._context.happen(update, Event.GAVE_UP, error=error)
            return
        suspect = update.proof_failures >= _PROOF_FAILURES_OF_ONE_SOURCE
        suspect = suspect or isinstance(error, WrongSourceError)
        if suspect and step is not None and step.source is not None:
            update.excluded.add(step.source)
        self._interrupted(update, error)

    def put_aside(self, update: Update, rotten: Sequence[Digest]) -> None:
        """Files that rotted on this device: reported, and never a source again."""
        for file in rotten:
            self._store.blobs.quarantine(file)
        error = SourceRottenError(
            f"{len(rotten)} held file(s) were damaged on this device and are no longer used: "
            + ", ".join(file.short for file in rotten)
        )
        update.reason, update.message = error.reason, error.message
        with contextlib.suppress(ResourceError):  # unsaid on a full disk, but put aside
            self._context.log.enter(update, "source_rotten", facts={"files": str(len(rotten))})
        update.reason = update.message = ""

    # -- again ---------------------------------------------------------------------------

    def _interrupted(self, update: Update, error: EdgeError) -> None:
        update.retries += 1
        update.asked_wait_s = retry_after_s(error)
        # A distributor that is away for a night is no failure of the update: it waits for it.
        too_often = update.retries > _RETRIES_MAX and not isinstance(error, UnavailableError)
        self._context.happen(update, Event.GAVE_UP if too_often else Event.INTERRUPTED, error=error)

    def _ask(
        self,
        update: Update,
        work: Callable[[], T],
        then: Callable[[Update, T | None, EdgeError | None], None],
    ) -> None:
        """Work for another thread; its answer counts unless the update moved on."""
        update.asked += 1
        asked = update.asked

        def answered(result: T | None, error: Exception | None) -> None:
            if update.asked == asked:
                then(update, result, None if error is None else typed(error))

        self._context.loop.background(work, answered)


def typed(error: Exception) -> EdgeError:
    """The error of ours for whatever a write or an answer failed with."""
    if isinstance(error, EdgeError):
        return error
    if isinstance(error, OSError):
        explained = explain_os_error(error, Path(str(error.filename or "the store")))
        if isinstance(explained, EdgeError):
            return explained
    return UnavailableError(f"{type(error).__name__}: {error}")
