"""Whether requests of a loaded model may run as one, and what that costs: tried, not believed.

A signature says only that the first dimension may have any size. That the rows do not depend
on each other is tried with rows that differ; what a run of so many costs, by running them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from device_agent.serving.generation import Generation
from device_agent.serving.scheduling import BatchCosts
from device_agent.serving.scheduling.batching import sizes
from edge_sdk.base import EdgeError
from edge_sdk.engines.contract import Array, Session
from edge_sdk.engines.golden import OUTPUT, compare

_RUNS = 5  # of each size
_TIME_S = 2.0  # for all sizes together; one that was not measured is not used


def has_rows(session: Session) -> bool:
    """Whether all tensors have a first dimension of any size, and are numbers."""
    specs = (*session.inputs, *session.outputs)
    return bool(session.inputs) and all(
        spec.shape[:1] == (-1,) and spec.dtype != "string" for spec in specs
    )


def try_batches(generation: Generation, rows_max: int) -> BatchCosts | None:
    """Runs every size, which also binds buffers for it. None: each request must run alone."""
    if rows_max < 2 or not has_rows(generation.session):
        return None
    golden = generation.identity.golden
    row = {spec.name: golden[spec.name][:1] for spec in generation.session.inputs}
    if not all(len(array) for array in row.values()):
        return None
    try:
        if not _rows_stand_alone(generation, row):
            return None
        costs = _measured(generation, row, rows_max)
        # A run has as many rows as wait: none of these sizes is to be bound by a request.
        for rows in range(1, rows_max + 1):
            _run(generation, _repeated(row, rows))
        return costs
    except EdgeError:  # a model that takes one row only, whatever it says, or no memory for more
        return None


def _rows_stand_alone(generation: Generation, row: Mapping[str, Array]) -> bool:
    """Whether two different rows get together what each gets by itself."""
    other = {name: _unlike(array) for name, array in row.items()}
    alone = [_run(generation, inputs) for inputs in (row, other)]
    both = _run(generation, {name: np.concatenate([row[name], other[name]]) for name in row})
    wanted = {OUTPUT + name: np.concatenate([alone[0][name], alone[1][name]]) for name in alone[0]}
    return not compare(generation.session, both, wanted, {})


def _unlike(array: Array) -> Array:
    """Another row of the same kind: values that the model takes, in another order."""
    turned = array.reshape(-1)[::-1].reshape(array.shape)
    return turned * array.dtype.type(0.5) if array.dtype.kind == "f" else turned


def _run(generation: Generation, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [spec.name for spec in generation.session.inputs]
    slot = generation.slots.take([inputs[name].shape for name in names])
    try:
        for name in names:
            slot.inputs[name][...] = inputs[name]
        return {name: np.array(array) for name, array in slot.run().items()}
    finally:
        generation.slots.put_back(slot)


def _repeated(row: Mapping[str, Array], rows: int) -> dict[str, Array]:
    return {name: np.repeat(array, rows, axis=0) for name, array in row.items()}


def _measured(generation: Generation, row: Mapping[str, Array], rows_max: int) -> BatchCosts:
    costs = BatchCosts(rows_max)
    end_s = time.monotonic() + _TIME_S
    for rows in sizes(rows_max):
        _run(generation, _repeated(row, rows))
        slot = generation.slots.take([(rows, *row[name].shape[1:]) for name in row])
        try:
            slot.run()
            for _ in range(_RUNS):
                begin_ns = time.thread_time_ns()
                slot.run()
                costs.measured(rows, time.thread_time_ns() - begin_ns)
                if time.monotonic() > end_s:
                    return costs
        finally:
            generation.slots.put_back(slot)
    return costs
