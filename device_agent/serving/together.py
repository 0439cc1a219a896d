"""Requests of one model that run as one: who of them makes the run, and what each gets of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_agent.serving.answer import Answer, HeldSlot
from device_agent.serving.generation import Generation
from device_agent.serving.request import Request, fill
from device_agent.serving.scheduling import ALONE, BatchCosts, Scheduler, Waiting
from device_agent.serving.slots import BoundSlot
from edge_sdk.base import EdgeError
from edge_sdk.engines.contract import Array

_now_ns = time.perf_counter_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What a run of several requests made; each gets its rows."""

    slot: BoundSlot
    held: HeldSlot
    outputs: Mapping[str, Array]
    batch: int
    times_ns: tuple[int, int, int]  # turn, filled, done

    def answer(self, generation: Generation, request: Request, row: int, begin_ns: int) -> Answer:
        """Must be closed: the turn ends with the last."""
        turn_ns, filled_ns, done_ns = self.times_ns
        phases = (turn_ns - begin_ns, filled_ns - turn_ns, done_ns - filled_ns)
        try:
            end = row + request.rows
            return Answer(
                generation,
                {name: self.outputs[name][row:end] for name in request.specs},
                request.specs,
                slot=self.slot,
                phases=(*phases, self.batch, row == 0),
                done_ns=done_ns,
                held=self.held,
            )
        except BaseException:
            if self.held.let_go():
                generation.slots.put_back(self.slot)
            raise


def run_observed(slot: BoundSlot, costs: BatchCosts, rows: int) -> Mapping[str, Array]:
    """A run whose cost is learnt: CPU time of its thread, since beside other runs the time by
    the clock says how busy the cores are, and makes a batch of convolutions look cheap."""
    began_ns = time.thread_time_ns()
    outputs = slot.run()
    costs.observed(rows, time.thread_time_ns() - began_ns)
    return outputs


def run_together(
    scheduler: Scheduler, generation: Generation, request: Request, ticket: Waiting
) -> Together | None:
    """A run that several waiting requests share: made by another's thread, or by this one for
    all. None: this one has a turn, to run alone."""
    if isinstance(ticket.outcome, Together):
        return ticket.outcome
    if ticket.outcome is None:  # this thread has the turn
        costs = generation.batch_costs
        if ticket.group is None or costs is None:
            return None
        mates = scheduler.mates(ticket, costs.best - ticket.rows)
        if not mates:
            return None
        together = _lead(scheduler, generation, request, ticket, mates)
        if together is not None:
            return together
    # What failed for all may be one's fault: each is tried by itself.
    scheduler.again(ticket)
    return None


def _lead(
    scheduler: Scheduler,
    generation: Generation,
    request: Request,
    ticket: Waiting,
    mates: list[Waiting],
) -> Together | None:
    """Runs a request with its mates; None where that did not go well.

    The turn ends when all are answered: whoever had it before that would run alone, while those
    just answered are about to ask again.
    """
    turn_ns = done_ns = _now_ns()

    def end_turn() -> None:
        scheduler.leave(ticket.queue, ticket.priority, done_ns - turn_ns)

    parts = [request, *(mate.work for mate in mates)]
    rows = sum(part.rows for part in parts)
    slot = outcome = None
    try:
        for part in parts:
            if part.began is not None:
                part.began()
        slot = generation.slots.take([(rows, *shape[1:]) for shape in request.shapes])
        _fill_rows(slot, parts)
        filled_ns = _now_ns()
        costs = generation.batch_costs
        outputs = slot.run() if costs is None else run_observed(slot, costs, rows)
        done_ns = _now_ns()
        if all(array.shape[:1] == (rows,) for array in outputs.values()):
            outcome = Together(
                slot=slot,
                held=HeldSlot(slot, len(parts), end_turn),
                outputs=outputs,
                batch=len(parts),
                times_ns=(turn_ns, filled_ns, done_ns),
            )
        else:
            generation.batch_costs = None  # this model does not answer row by row
    except Exception as error:  # noqa: BLE001 - whatever it was, each hears of its own alone
        if not isinstance(error, EdgeError):
            traceback.print_exception(error)
    if outcome is None:
        if slot is not None:
            generation.slots.put_back(slot)
        done_ns = _now_ns()
        end_turn()
    row = request.rows
    for mate in mates:
        mate.row, row = row, row + mate.rows
        scheduler.tell(mate, outcome or ALONE)
    return outcome


def _fill_rows(slot: BoundSlot, parts: Sequence[Request]) -> None:
    row = 0
    for part in parts:
        for tensor in part.given:
            fill(slot.inputs[tensor.name][row : row + part.rows], tensor)
        row += part.rows
