"""Which artifact serves: prepare, slot, switch, and back.

The order is prepare, journal (the driver's), slot, switch. Every step may be done twice.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from device_agent.errors import InferenceGoneError, SourceRottenError
from device_agent.records import Drop, Prepare, Switch
from device_agent.store import Slot
from device_agent.updater.context import Context
from device_agent.updater.lifecycle import Event, State
from device_agent.updater.probation import Probation
from device_agent.updater.update import Update
from device_agent.updater.verdict import Verdict
from edge_sdk.base import Digest, EdgeError, FormatError, ProofError
from edge_sdk.manifest import Manifest

_TICK_S = 0.5


class Switcher:
    """Performs PREPARE, SWITCH, WATCH, COMMIT, ROLL_BACK, STEP_BACK and ABANDON."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def prepare(self, update: Update) -> None:
        """Asks inference to load the artifact; its answer, or its next Hello, goes on."""
        if _serves_nothing(update):
            self._context.happen(update, Event.PREPARED)
            return
        assert update.manifest is not None
        if not update.read_back:
            self._prove_first(update)
            return
        update.asked += 1
        asked = update.asked
        folder = self._store.tree(update.artifact)
        try:
            self._send(
                to_prepare(
                    update.model,
                    update.artifact,
                    update.manifest,
                    folder,
                    number=self._new_order(update),
                )
            )
        except FormatError as error:  # its signature does not fit a packet
            self._context.happen(update, Event.PREPARE_FAILED, error=error)
            return
        timeout_s = self._context.config.prepare_timeout_s

        def overdue() -> None:
            if update.asked == asked:
                gone = InferenceGoneError("inference did not load the candidate in time")
                if update.state.value == "tried":
                    self._context.happen(update, Event.INTERRUPTED, error=gone)

        update.timer = self._context.loop.later(timeout_s, overdue)

    def _prove_first(self, update: Update) -> None:
        """After a start: what was proved before it may have rotted since."""
        update.asked += 1
        asked = update.asked

        def proved(result: None, error: Exception | None) -> None:
            if update.asked != asked:
                return
            if error is None:
                update.read_back = True
                self.prepare(update)
            elif not isinstance(error, ProofError):  # it cannot be read now: nothing is known
                update.timer = self._context.loop.later(_TICK_S, lambda: self._prove_first(update))
            elif update.state is State.TRIED:
                self._context.happen(update, Event.PLAN_UNUSABLE)
            else:  # it served: back to what did before, and then anew
                rotten = SourceRottenError("the candidate was damaged on this device")
                self._context.happen(update, Event.STOPPED, error=rotten)

        self._context.loop.background(lambda: self._store.prove(update.artifact), proved)

    def remember_way_back(self, update: Update) -> None:
        """Before the journal says that it switches: where a rollback leads."""
        slot = self._store.slot_files.get(update.model)
        if slot is not None and slot.active != update.artifact:
            update.fallback, update.spare = slot.active, slot.previous
        elif slot is not None:
            update.fallback = slot.previous

    def switch(self, update: Update) -> None:
        """The slot, then the message."""
        watched = update.kind == "update" and not _serves_nothing(update)
        slot = Slot(
            model=update.model,
            active=update.artifact,
            previous=update.fallback,
            on_probation=watched,
        )
        if self._store.slot_files.get(update.model) != slot:
            self._store.slot_files.put(slot)
        if _serves_nothing(update):
            self._context.happen(update, Event.SWITCH_DONE)
            return
        self._send(
            Switch(
                model=update.model,
                artifact=update.artifact,
                probation=watched,
                number=self._new_order(update),
                mode=self._mode(update) if watched else "switch",
                share=self._context.config.probation.share,
            )
        )

    def mode_to_come(self, update: Update) -> dict[str, str]:
        """For whoever hears that an update is switched: that it only stands beside."""
        self.remember_way_back(update)
        mode = self._mode(update)
        return {} if mode == "switch" else {"mode": mode}

    def _mode(self, update: Update) -> str:
        """Beside what serves, where something does."""
        mode = self._context.config.probation.mode
        beside = update.kind == "update" and self._was_served(update.fallback)
        return mode if beside else "switch"

    def watch(self, update: Update) -> None:
        """Under watch from now on; what was committed here before is not watched again."""
        if _serves_nothing(update):
            message = "an application runs it; nothing was observed"
            self._context.happen(
                update, Event.UNPROVED, message=message, facts={"unproved": "true"}
            )
            return
        if update.kind != "update":
            self._context.happen(update, Event.PASSED, facts={"kind": update.kind})
            return
        golden = update.manifest is not None and update.manifest.golden is not None
        update.probation = Probation(
            self._context.config.probation,
            comparable=golden and self._was_served(update.fallback),
            mode=self._mode(update),
        )
        self._tick(update, update.probation)

    def _was_served(self, before: Digest | None) -> bool:
        """Whether inference has the version before beside the candidate, to compare with."""
        if before is None:
            return False
        with contextlib.suppress(EdgeError):
            return self._store.manifest(before).serve == "inference"
        return True  # it serves, though its manifest was lost meanwhile

    def _tick(self, update: Update, probation: Probation) -> None:
        if update.probation is probation:
            self.evaluate(update)
        if update.probation is probation:
            tick_s = min(_TICK_S, probation.rule.duration_s / 4 + 0.01)
            update.timer = self._context.loop.later(tick_s, lambda: self._tick(update, probation))

    def evaluate(self, update: Update) -> None:
        """Looks at what was seen so far."""
        probation = update.probation
        if probation is None:
            return
        verdict, why = probation.judge()
        stays = self._context.config.probation.unproved_stays
        facts = probation.facts()
        if verdict is Verdict.PROVED:
            self._context.happen(update, Event.PASSED, facts=facts)
        elif verdict is Verdict.UNPROVED and stays:
            facts["unproved"] = "true"
            self._context.happen(update, Event.UNPROVED, message=why, facts=facts)
        elif verdict in (Verdict.UNPROVED, Verdict.WORSE):
            self._context.happen(update, Event.WORSE, message=why, facts=facts)

    def commit(self, update: Update) -> None:
        """Kept for good: the slot says so, and what served before is unloaded (not deleted)."""
        slot = self._store.slot_files.get(update.model)
        if slot is None or slot.active != update.artifact:
            return
        if slot.on_probation:
            self._store.slot_files.put(
                Slot(model=slot.model, active=slot.active, previous=slot.previous)
            )
        if _serves_nothing(update):
            # What served before this version would go on answering until the next start.
            self._send(Drop(model=update.model, artifact=None))
        elif slot.previous is not None:
            if self._context.config.probation.mode != "switch":
                # So far the previous one serves. Again after a start: there the slot decides.
                self._send(Switch(model=update.model, artifact=update.artifact, probation=False))
            self._send(Drop(model=update.model, artifact=slot.previous))

    def roll_back(self, update: Update) -> None:
        """What served before serves again. Needs no space and no distributor."""
        slot = self._store.slot_files.get(update.model)
        if slot is None or slot.active != update.artifact or update.kind != "update":
            return
        if not slot.on_probation and not _serves_nothing(update):
            return  # it was committed: the way back is an update of its own
        if update.fallback is None:
            self._store.slot_files.remove(update.model)
            self._send(Drop(model=update.model, artifact=None))
            return
        spare = update.spare if update.spare and self._store.is_held(update.spare) else None
        self._store.slot_files.put(Slot(model=update.model, active=update.fallback, previous=spare))
        if not _serves_nothing(update):
            self._send(Switch(model=update.model, artifact=update.fallback, probation=False))
            self._send(Drop(model=update.model, artifact=update.artifact))

    def step_back(self, update: Update) -> None:
        """Inference dies of what the slot names: its next start finds the previous artifact."""
        slot = self._store.slot_files.get(update.model)
        if slot is None or slot.active != update.artifact or update.kind != "update":
            return
        if slot.previous is not None and self._store.is_held(slot.previous):
            self._store.slot_files.put(Slot(model=slot.model, active=slot.previous))

    def abandon(self, update: Update) -> None:
        """The candidate never served: unload it where it was loaded."""
        slot = self._store.slot_files.get(update.model)
        named = slot is not None and update.artifact in (slot.active, slot.previous)
        if not named and not _serves_nothing(update):
            self._send(Drop(model=update.model, artifact=update.artifact))

    def put_right(self, model: str, artifact: Digest, *, number: int) -> None:
        """Makes inference serve what the slot names; its Prepared is answered by Switch."""
        try:
            manifest = self._store.manifest(artifact)
        except EdgeError:
            return
        if manifest.serve == "inference":
            with contextlib.suppress(FormatError):  # such a one was never switched to
                folder = self._store.tree(artifact)
                self._send(to_prepare(model, artifact, manifest, folder, number=number))

    def _new_order(self, update: Update) -> int:
        update.order = next(self._context.numbers)
        return update.order

    def _send(self, message: Switch | Drop | Prepare) -> None:
        # Where inference is down: it starts from the slots, and its Hello goes on from there.
        with contextlib.suppress(InferenceGoneError):
            self._context.send(message)


def to_prepare(
    model: str, artifact: Digest, manifest: Manifest, folder: Path, *, number: int
) -> Prepare:
    golden = manifest.golden
    return Prepare(
        model=model,
        artifact=artifact,
        version=str(manifest.version),
        variant=manifest.variant,
        folder=str(folder),
        entry=manifest.entry,
        engine=manifest.requires.engine or "onnxruntime",
        golden_path=None if golden is None else golden.path,
        tolerances={} if golden is None else dict(golden.tolerances),
        inputs=manifest.signature.inputs,
        outputs=manifest.signature.outputs,
        number=number,
    )


def _serves_nothing(update: Update) -> bool:
    return update.manifest is not None and update.manifest.serve == "none"
