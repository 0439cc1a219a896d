"""Drives every update: journals what the life-cycle table says, then performs the acts.

The same code starts and resumes: after a start each update in the journal hears RESUMED.
What should run follows from ``reconcile.py``; how far it is, from the store.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from device_agent.config import AgentConfig
from device_agent.errors import (
    GroupFailedError,
    InferenceGoneError,
    RolledBackByOperatorError,
    SupersededError,
)
from device_agent.fleet_link import EngineCapability
from device_agent.records import (
    AgentEvent,
    AgentStatus,
    Ask,
    Drop,
    HeldTree,
    Message,
    ModelStatus,
)
from device_agent.store import Store
from device_agent.store.collect import collect
from device_agent.store.journal import Forgotten, Journal
from device_agent.store.quota import room
from device_agent.trust import AssignmentKeeper, open_gate
from device_agent.updater import reconcile as orders
from device_agent.updater import status as shown
from device_agent.updater.believe import Believer
from device_agent.updater.contact import Contact, Description
from device_agent.updater.context import Context
from device_agent.updater.deliver import Deliverer, typed
from device_agent.updater.inference_link import InferenceLink
from device_agent.updater.inference_peer import InferencePeer
from device_agent.updater.leases import Leases
from device_agent.updater.lifecycle import Act, Event, State, advance, is_before_switch, is_ended
from device_agent.updater.loop import Loop
from device_agent.updater.one_place import EXCLUSIVE, OnePlace
from device_agent.updater.renewal import Renewal, open_link
from device_agent.updater.report import TEXT_MAX, EventLog, to_agent_event, verdict_on
from device_agent.updater.switch import Switcher
from device_agent.updater.together import Groups
from device_agent.updater.trial import find_engines, try_candidate
from device_agent.updater.trier import Trial, Trier
from device_agent.updater.update import Kind, Update, begin, begin_held, restore
from edge_sdk.base import (
    Digest,
    EdgeError,
    NotFoundError,
    RefusedError,
    ResourceError,
)
from edge_sdk.manifest import AssignedModel
from edge_sdk.rpc.backoff import Backoff

_SPACE_CHECK_S = 30.0
_GAVE_UP_FACTOR = 4.0
_STARTS_MAX = 5  # of the agent, one after the other: power cuts, or the candidate's doing
# What too many starts are to a candidate that runs in that state, or is about to.
_BLAMED = {
    State.PROVED: Event.TRIAL_FAILED,
    State.TRIED: Event.PREPARE_FAILED,
    State.SWITCHED: Event.CRASHED,
    State.ON_PROBATION: Event.CRASHED,
}


class Updater:
    """The updater process, without its doors. Everything but ``loop`` belongs to its thread."""

    def __init__(
        self,
        config: AgentConfig,
        inference_end: socket.socket | None,
        *,
        engines: Callable[[], tuple[EngineCapability, ...]] = find_engines,
        trial: Trial = try_candidate,
    ) -> None:
        self.config = config
        self.loop = Loop(self._on_short)
        self.store = Store.create(Path(config.state_dir))
        self.journal = Journal(self.store.files, self.store.journal_path)
        self.log = EventLog(self.journal, self.loop.put)
        self.keeper = AssignmentKeeper(self.store, config.device)
        self.updates: dict[str, Update] = {}
        self.groups = Groups(
            self.updates,
            self.store.slot_files,
            assignment=lambda: self.keeper.current,
            is_judged=self._is_judged,
            happen=self.happen,
        )
        self.leases = Leases(self.store)
        self._contact: Contact | None = None
        self._inference: InferenceLink | None = None
        link = open_link(config, self.store)
        self.context = Context(
            config=config,
            store=self.store,
            journal=self.journal,
            log=self.log,
            loop=self.loop,
            link=link,
            gate=None
            if link is None
            else open_gate(self.store.files, self.store.root / "trust", link.metadata),
            assigned=self.keeper.artifacts,
            capabilities=shown.capabilities(config, engines()),
            send=self._send,
            numbers=itertools.count(time.time_ns()),  # an updater before this one is outrun
            happen=self.happen,
            collect=self.collect,
        )
        # Taken up by itself: should it fail, the contact goes on.
        taken = partial(self.loop.put, self.reconcile)
        self.believer = Believer(self.context, self.keeper, taken=taken, report=self._report)
        self.deliverer = Deliverer(self.context)
        self.switcher = Switcher(self.context)
        self.place = OnePlace(
            self.updates, trial_runs=lambda: self.trier.is_busy, perform=self._perform
        )
        self.trier = Trier(self.context, trial, ended=self.place.next)
        self.peer = InferencePeer(
            self.context,
            self.updates,
            deliverer=self.deliverer,
            switcher=self.switcher,
            reconcile=self.reconcile,
            dies_at_start=self._dies_at_start,
        )
        if inference_end is not None:
            self._inference = InferenceLink(inference_end, self.loop, self.peer.hear)

    # -- life ----------------------------------------------------------------------------

    def run(self) -> None:
        """Until ``loop.stop()``."""
        self.loop.put(self._start)
        try:
            self.loop.run()
        finally:
            for update in self.updates.values():
                update.stop_work()
            if self._contact is not None:
                self._contact.close()
            if self._inference is not None:
                self._inference.close()

    def _start(self) -> None:
        with contextlib.suppress(EdgeError):
            self._send(Ask())
        for entered in self.journal.latest().values():
            update = restore(entered)
            with contextlib.suppress(EdgeError):
                update.manifest = self.store.manifest(update.artifact)
            self.updates[update.model] = update
        for update in tuple(self.updates.values()):
            # Without its manifest nothing can be done with an artifact: begin anew.
            lost = update.manifest is None and update.state not in (State.ASSIGNED, State.FAILED)
            update.resumed = update.state in _BLAMED
            self.happen(update, Event.STOPPED if lost else Event.RESUMED)
        link = self.context.link
        if link is not None:
            self._contact = Contact(
                self.loop,
                link,
                self.log,
                device=self.config.device,
                check_in_s=self.config.check_in_s,
                labels=dict(self.config.labels),
                backoff=Backoff(base_s=self.config.retry_base_s, cap_s=self.config.retry_cap_s),
                watch=self.config.watch,
                describe=self._describe,
                on_assignment=self.believer.hear,
                on_reached=self._on_reached,
                say_again=lambda: self.loop.put(self._say_again),
                renewal=Renewal(self.loop, link, self.store),
            )
            self._contact.check_in()
            self.believer.look_regularly()
        self.loop.put(self._settle)

    # -- what happens to an update -------------------------------------------------------

    def happen(
        self,
        update: Update,
        event: Event,
        *,
        error: EdgeError | None = None,
        message: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """The only place where a state changes: journal first, then the acts."""
        if self.groups.holds_back(
            update, event, {"error": error, "message": message, "facts": facts}
        ):
            self.loop.put(self.groups.look)
            return
        before = update.state
        state, acts = advance(before, event)
        if event is Event.PREPARED and before is State.TRIED:
            self.switcher.remember_way_back(update)
        update.state = state
        update.reason = error.reason if error is not None else ""
        update.message = (error.message if error is not None else message)[:TEXT_MAX]
        judged = None
        if Act.REMEMBER in acts:
            update.reason = update.reason or "CandidateRefusedError"
            judged = verdict_on(update)
        if state is not before or update.reason:
            seconds = f"{time.monotonic() - update.began_s:.3f}"
            told = {"seconds": seconds, **(facts or {})}
            try:
                self.log.enter(update, event.value, facts=told, judged=judged)
            except ResourceError as full:
                update.state = before
                if is_before_switch(before):
                    update.stop_work()
                    self._hold_up(update, full, lambda: self.happen(update, Event.RETRY_DUE))
                else:
                    again = partial(self.happen, error=error, message=message, facts=facts)
                    self._hold_up(update, full, lambda: again(update, event))
                return
            update.held_up = 0
            # Put, not called: journal, then act, then report. Nobody hears of a rollback
            # before the slot names what serves.
            self.loop.put(self._report)
        if is_ended(state):
            update.stop_work()
        for act in acts:
            if update.state is state:
                self._perform(update, act)
        self.loop.put(self.groups.look)
        if is_ended(state) and state is not before:
            self.loop.put(self._settle)

    def _hold_up(
        self, update: Update, failed: OSError | ResourceError, again: Callable[[], None]
    ) -> None:
        """The disk does not take what has to be written first: nothing happened yet, what
        serves goes on serving, and it is tried again after a back-off."""
        error = typed(failed)
        update.reason, update.message = error.reason, error.message
        update.held_up += 1
        if update.timer is not None:
            update.timer.cancel()
        asked = update.asked

        def retry() -> None:
            if update.asked == asked:
                update.timer = None
                again()

        delay_s = self.deliverer.backoff.delay_s(update.held_up, random.random())  # noqa: S311
        update.timer = self.loop.later(delay_s, retry)
        if self._contact is not None:
            self._contact.check_in()  # says it, as the journal cannot
        self.loop.put(self.place.next)

    def _on_short(self, error: ResourceError) -> None:
        """Something else could not be written: what follows from it is asked again later."""
        sys.stderr.write(f"edge-agent: {error.message}\n")
        self.loop.later(min(_SPACE_CHECK_S, self.config.retry_cap_s), self._settle)

    def _settle(self) -> None:
        """After an update ended: is there more to do, and what is no longer needed?"""
        self.reconcile()
        self.collect()

    def _perform(self, update: Update, act: Act) -> None:
        try:
            self._do(update, act)
        except (OSError, ResourceError) as failed:
            self._hold_up(update, failed, lambda: self.happen(update, Event.RESUMED))

    def _do(self, update: Update, act: Act) -> None:
        if not self.place.take(update, act):
            return
        if update.resumed and act in (Act.TRY, Act.PREPARE):
            # Start after start found it unfinished: it may be what takes the device down.
            times = self.log.enter_again(update, Event.RESUMED.value)
            update.resumed = False
            if times >= _STARTS_MAX:
                message = f"the agent ended {_STARTS_MAX} times while it was {update.state.value}"
                self.happen(update, _BLAMED[update.state], message=message)
                return
        if act in EXCLUSIVE:
            update.busy = True
        elif act is not Act.REMEMBER:
            update.busy = False
        performers: dict[Act, Callable[[Update], None]] = {
            Act.PLAN: self.deliverer.plan,
            Act.FETCH: self.deliverer.fetch,
            Act.WAIT: self._wait,
            Act.TRY: self.trier.try_it,
            Act.PREPARE: self.switcher.prepare,
            Act.SWITCH: self.switcher.switch,
            Act.WATCH: self.switcher.watch,
            Act.COMMIT: self.switcher.commit,
            Act.ROLL_BACK: self.switcher.roll_back,
            Act.STEP_BACK: self.switcher.step_back,
            Act.ABANDON: self.switcher.abandon,
            Act.REMEMBER: lambda _: None,  # journaled together with the state
        }
        performers[act](update)
        if not update.busy:
            self.loop.put(self.place.next)

    def _wait(self, update: Update) -> None:
        """Back off, then try again; where room is missing, until there is some."""
        update.stop_work()
        backoff = self.deliverer.backoff
        if update.state is not State.FAILED:
            delay_s = update.asked_wait_s + backoff.delay_s(update.retries, random.random())  # noqa: S311
        elif update.needed_bytes:
            delay_s = min(_SPACE_CHECK_S, self.config.retry_cap_s)
        elif update.reason in (ResourceError.__name__, RefusedError.__name__):
            update.resting = True  # it does not fit; a new order or a restart asks again
            return
        else:
            delay_s = _GAVE_UP_FACTOR * self.config.retry_cap_s
        update.timer = self.loop.later(delay_s, lambda: self._retry(update))

    def _retry(self, update: Update) -> None:
        update.timer = None
        if self.updates.get(update.model) is not update:
            return
        if update.state is State.FAILED and update.needed_bytes:
            if self._room_bytes() < update.needed_bytes:
                self._wait(update)
                return
            update.needed_bytes = 0
        if update.state is State.FAILED:
            update.retries = 0
        self.happen(update, Event.RETRY_DUE)

    # -- what should run -----------------------------------------------------------------

    def reconcile(self) -> None:
        """Performs what follows from assignment, slots and memory."""
        blocked = self._is_blocked
        for order in orders.reconcile(self.keeper.current, self._standings(), blocked):
            self._carry_out(order)

    def _carry_out(self, order: orders.Order) -> None:
        if isinstance(order, orders.Begin):
            self._begin(begin(order.assigned))
        elif isinstance(order, orders.Remove):
            self._remove(order.model)
        elif isinstance(order, orders.Stop):
            self._stop(order.model)
            self.loop.put(self._settle)
        elif isinstance(order, (orders.SayCommitted, orders.SayBlocked)):
            self._say(order)
        else:
            kind: Kind = "repair" if isinstance(order, orders.Repair) else "return"
            try:
                manifest = self.store.manifest(order.artifact)
            except EdgeError:
                self._begin_from_assignment(order.model, order.artifact)
                return
            self._begin(begin_held(order.model, order.artifact, manifest, kind=kind))

    def _begin_from_assignment(self, model: str, artifact: Digest) -> None:
        """Even the manifest is damaged; the assignment says what it was."""
        for assigned in self.keeper.current.models if self.keeper.current else ():
            if str(assigned.model) == model and assigned.artifact == artifact:
                update = begin(assigned, kind="repair")
                update.rollout = ""
                self._begin(update)

    def _begin(self, update: Update) -> None:
        self._stop(update.model)
        self.log.enter(update, "assigned")
        self.updates[update.model] = update
        self._perform(update, Act.PLAN)

    def _stop(self, model: str) -> None:
        """Ends what is under way for a model; what served before it serves again.

        Raises: ResourceError where that cannot be written down: it is still under way.
        """
        update = self.updates.get(model)
        if update is not None and not is_ended(update.state):
            update.stop_work()
            self.happen(
                update, Event.STOPPED, error=SupersededError("a newer assignment came first")
            )
            if not is_ended(update.state):
                raise ResourceError(update.message)
        elif update is not None:
            update.stop_work()
            update.resting = False  # or it would be there to be stopped again, for ever

    def _remove(self, model: str) -> None:
        self._stop(model)
        with contextlib.suppress(EdgeError):
            self._send(Drop(model=model, artifact=None))
        self.store.slot_files.remove(model)
        self.journal.append(Forgotten(model=model))
        self.updates.pop(model, None)
        self.loop.put(self.collect)
        if self._contact is not None:
            self._contact.check_in()  # there is no event of it, and somebody waits to hear

    def _say(self, order: orders.SayCommitted | orders.SayBlocked) -> None:
        """Ends the order with what was found out before: there is nothing to do here."""
        update = begin(order.assigned)
        with contextlib.suppress(EdgeError):
            update.manifest = self.store.manifest(update.artifact)
        facts = {"wire_bytes": "0", "known": "true"}
        if isinstance(order, orders.SayCommitted):
            update.state = State.COMMITTED
        else:
            update.state = State.FAILED
            judged = self.journal.verdict(update.model, str(update.artifact), update.attempt)
            update.reason = GroupFailedError.__name__ if judged is None else judged.reason
            update.message = "" if judged is None else judged.message
        self.log.enter(update, "known", facts=facts)
        self.updates[update.model] = update
        self.loop.put(self._report)

    def _report(self) -> None:
        if self._contact is not None and self._contact.connected:
            self._contact.report()

    def _is_blocked(self, assigned: AssignedModel) -> bool:
        return self._is_judged(assigned) or self.groups.is_lost(assigned)

    def _is_judged(self, assigned: AssignedModel) -> bool:
        model, artifact = str(assigned.model), str(assigned.artifact)
        return self.journal.verdict(model, artifact, assigned.attempt) is not None

    def _standings(self) -> dict[str, orders.Standing]:
        slots = {slot.model: slot for slot in self.store.slots()}
        found = {}
        for model in {*slots, *self.updates}:
            slot, update = slots.get(model), self.updates.get(model)
            found[model] = shown.standing(
                self.store,
                self.journal,
                model,
                slot=slot,
                working=update if update is not None and update.is_going_on else None,
                assignment=self.keeper.current,
            )
        return found

    # -- inference -----------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        if self._inference is not None:
            self._inference.send(message)

    def _dies_at_start(self, model: str, artifact: Digest, has_way_back: bool) -> None:
        """Inference cannot be started with an artifact that was committed."""
        update = self._kept(model, artifact)
        message = "inference ended again and again while it loaded this artifact at its start"
        if has_way_back:
            self.happen(update, Event.DIES_AT_START, message=message)
            return
        error = InferenceGoneError(f"{message}; no artifact before it is held")
        update.reason, update.message = error.reason, error.message
        self.log.enter(update, Event.DIES_AT_START.value)
        self.loop.put(self._report)

    def _kept(self, model: str, artifact: Digest) -> Update:
        """The update that brought what a slot names. It blocks whatever number is ordered now."""
        update = self.updates.get(model)
        if update is None or update.artifact != artifact or update.state is not State.COMMITTED:
            update = begin_held(model, artifact, self.store.manifest(artifact), kind="update")
            update.state = State.COMMITTED
        if update.model not in self.updates or is_ended(self.updates[model].state):
            self.updates[model] = update
        ordered = shown.attempt(self.keeper.current, model, artifact)
        update.attempt = max(update.attempt, ordered)
        return update

    # -- distributor ---------------------------------------------------------------------

    def _on_reached(self) -> None:
        """The distributor is back: nobody waits for a back-off to end."""
        for update in tuple(self.updates.values()):
            pending = update.state in (State.ASSIGNED, State.PLANNED, State.FETCHING)
            if pending and update.timer is not None and not update.busy:
                update.timer.cancel()
                self._retry(update)

    def _say_again(self) -> None:
        """The distributor knows of events that this device has forgotten."""
        for update in self.updates.values():
            self.log.enter(update, "said_again")

    def _describe(self) -> Description:
        return Description(
            capabilities=self.context.capabilities,
            held=self.store.held(),
            models=tuple(map(shown.model_state, self.models())),
            assignment_counter=self.keeper.counter,
            disk_free_bytes=self._room_bytes(),
        )

    def _room_bytes(self) -> int:
        return room(
            self.store,
            quota_bytes=self.config.disk_quota_bytes,
            reserve_bytes=self.config.disk_reserve_bytes,
        ).free_bytes

    # -- what the local API asks; called on the loop's thread ----------------------------

    def status(self) -> AgentStatus:
        return AgentStatus(
            device=self.config.device,
            agent_version=shown.AGENT_VERSION,
            distributor=self.config.distributor,
            connected=self._contact is not None and self._contact.connected,
            no_contact=None if self._contact is None else self._contact.no_contact,
            assignment_counter=self.keeper.counter,
            refusal=self.believer.refusal,
            disk_free_bytes=self._room_bytes(),
            inference_address=self.config.inference_uri,
            lane_address=self.config.lane_uri,
            inference_ready=self.peer.is_ready,
            models=self.models(),
        )

    def models(self) -> tuple[ModelStatus, ...]:
        return shown.models(
            self.store, self.updates, caches=self.peer.caches, unserved=self.peer.unserved
        )

    def check_in_now(self, then: Callable[[EdgeError | None], None]) -> None:
        if self._contact is None:
            then(RefusedError("this agent has no distributor; give --distributor"))
        else:
            self._contact.check_in(then)

    def roll_back(self, model: str) -> tuple[str, Digest]:
        """Back to the previous artifact, and this one is not taken up again by itself.

        Returns version and artifact that will serve. Raises: NotFoundError, RefusedError,
        TrustError (below the floor), ResourceError.
        """
        slot = self.store.slot_files.get(model)
        if slot is None:
            raise NotFoundError(f"no model {model} on this device")
        previous = slot.previous
        if previous is None or not self.store.is_held(previous):
            raise NotFoundError(f"no previous artifact of {model} is held; nothing to go back to")
        update = self.updates.get(model)
        if update is not None and update.artifact != slot.active and not is_ended(update.state):
            raise RefusedError(f"an update of {model} is {update.state.value}; try again later")
        if update is None or update.artifact != slot.active or is_ended(update.state):
            update = self._kept(model, slot.active)
        version = self.keeper.allowed(model, self.store.manifest(previous).version)
        asked = RolledBackByOperatorError("somebody on this device asked for the version before")
        self.happen(update, Event.ROLLBACK_ASKED, error=asked)
        if not is_ended(update.state) or update.state is State.COMMITTED:
            raise ResourceError(f"{update.message}; it is done as soon as there is room")
        self.reconcile()
        return version, previous

    def hold(self, model: str) -> HeldTree:
        """A lease on the active artifact's tree. Raises: NotFoundError."""
        return self.leases.hold(model)

    def let_go(self, number: int) -> None:
        self.leases.let_go(number)
        self.collect()

    def events(self, after: int) -> list[AgentEvent]:
        return [to_agent_event(entered) for entered in self.journal.events(after)]

    # -- room ----------------------------------------------------------------------------

    def collect(self) -> None:
        """Removes what nothing reaches."""
        coming = [update for update in self.updates.values() if update.is_going_on]
        keep = [artifact for update in coming for artifact in update.targets()]
        collect(
            self.store,
            keep=[*keep, *self.leases.artifacts],
            partial=[target for update in coming for target in (update.artifact, *update.passing)],
        )
