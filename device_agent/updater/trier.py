"""Tries one candidate at a time; what comes of it is an event of its update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from device_agent.config import AgentConfig
from device_agent.errors import SupersededError
from device_agent.updater.context import Context
from device_agent.updater.inference_peer import named
from device_agent.updater.lifecycle import Event
from device_agent.updater.trial import Stop
from device_agent.updater.trial_values import TrialOutcome
from device_agent.updater.update import Update
from edge_sdk.base import EdgeError, ProofError, RefusedError, UnavailableError
from edge_sdk.manifest import Manifest

Trial = Callable[[Manifest, Path, AgentConfig, Stop], TrialOutcome]


class Trier:
    """Performs TRY. ``is_busy`` until a trial has really ended, also one that was stopped."""

    def __init__(self, context: Context, trial: Trial, *, ended: Callable[[], None]) -> None:
        self.is_busy = False
        self.trial = trial
        self._context = context
        self._ended = ended

    def try_it(self, update: Update) -> None:
        manifest = update.manifest
        assert manifest is not None
        if manifest.serve == "none":
            self._context.happen(update, Event.TRIAL_PASSED)
            return
        update.asked += 1
        asked = update.asked
        store, config = self._context.store, self._context.config
        folder = store.tree(update.artifact)
        read_back = update.read_back
        stop = update.trial = Stop()
        self.is_busy = True

        def work() -> TrialOutcome:
            if not read_back:  # after a start: rot must not be taken for a bad version
                store.prove(update.artifact)
            if stop.is_asked:
                raise SupersededError("the trial was stopped before it began")
            return self.trial(manifest, folder, config, stop)

        def answered(outcome: TrialOutcome | None, error: Exception | None) -> None:
            self.is_busy = False
            if update.asked == asked:
                update.trial = None
                self._tried(update, outcome, error)
            self._ended()

        self._context.loop.background(work, answered)

    def _tried(self, update: Update, outcome: TrialOutcome | None, error: Exception | None) -> None:
        if isinstance(error, ProofError):
            self._context.happen(update, Event.PLAN_UNUSABLE)
            return
        if outcome is None:
            failed = error if isinstance(error, EdgeError) else UnavailableError(str(error))
            update.retries += 1
            self._context.happen(update, Event.INTERRUPTED, error=failed)
            return
        update.read_back = True  # at the latest before the trial
        facts = {"load_ms": f"{outcome.load_ms:.1f}"}
        if outcome.ok:
            self._context.happen(update, Event.TRIAL_PASSED, message=outcome.message, facts=facts)
            return
        refused = named(RefusedError(outcome.message), outcome.reason)
        self._context.happen(update, Event.TRIAL_FAILED, error=refused, facts=facts)
