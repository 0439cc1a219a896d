"""Which code table codes a record: one in force, or a new one. Nothing here is part of the
format.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder
from edge_sdk.delta.coder import fit
from edge_sdk.delta.coder.fit import Counts, Fit, Fitter, Levels
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCE, GIVEN, CodeTable
from edge_sdk.delta.container import CODE_SLOTS, PREDICTION_SLOTS
from edge_sdk.delta.numeric import Bits, ElementKind

# A table in force that was used longer ago than this many others is not tried.
_TRIED_MAX = 4
# Records of fewer elements than this take what is in force, if it serves.
_FEW_ELEMENTS = 4096
# What a new table gains here it gains again in so many of the records that follow, at most.
_FOLLOWING_MAX = 8.0
# Integers that are predicted this well are not tried alone.
_INTEGER_BITS = 1
# Lanes by the least bytes of a stream: their states are to be a small part of it.
_LANES = ((48 << 10, 5), (1 << 10, 3), (0, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How elements are coded. ``cost_bytes`` counts the stream, and the table if it is new
    (``table_bytes``, otherwise 0)."""

    table: CodeTable
    slot: int
    levels: Levels | None
    lanes_log2: int
    cost_bytes: int
    table_bytes: int


@dataclass(slots=True, kw_only=True)
class _InForce:
    table: CodeTable
    inverse_means: NDArray[np.uint32] | None
    costs: Counts
    raw_bits: Counts
    level_costs: Counts
    table_bytes: int
    used: int


@dataclass(slots=True, kw_only=True)
class _Trial:
    """What a table in force would cost, and how much less with its frequencies made anew."""

    slot: int
    levels: Levels | None
    payload_bits: float
    refit_gain_bits: float


class Policy:
    """Remembers the tables in force, as far as its choices were written."""

    def __init__(self, slots: int = CODE_SLOTS) -> None:
        self._free = list(range(PREDICTION_SLOTS + slots - 1, PREDICTION_SLOTS - 1, -1))
        self._slots: dict[int, _InForce] = {}
        self._clock = 0
        self._tensor: Hashable = None

    def choose(
        self,
        kind: ElementKind,
        source: Bits | None,
        target: Bits,
        *,
        alone: bool = True,
        following: float = 0.0,
        tensor: Hashable = None,
    ) -> Choice | None:
        """For elements of shape (n,), predicted by ``source`` or alone (None).

        ``alone``: whether a prediction may be passed over. ``following``: how many more
        records like this one the tensor has; ``tensor`` tells
        tensors apart. None where they are none, or too different for a code.
        """
        if not len(target):
            return None
        known, self._tensor = tensor is not None and tensor == self._tensor, tensor
        trial = self._best_in_force(kind, source, target, alone=alone, first_only=known)
        if trial is not None and self._serves(trial, len(target), known, following):
            return self._reused(trial)
        made = _fitted(kind, source, target, alone=alone)
        if made is None:
            return None if trial is None else self._reused(trial)
        if trial is not None:
            times = 1 + min(following, _FOLLOWING_MAX)
            gain = (trial.payload_bits - made.payload_bits) * times
            if gain < 8 * made.table_bytes:
                return self._reused(trial)
        return self._new(made)

    # --- tables in force --------------------------------------------------------------

    def _best_in_force(
        self,
        kind: ElementKind,
        source: Bits | None,
        target: Bits,
        *,
        alone: bool,
        first_only: bool,
    ) -> _Trial | None:
        fitting = [
            slot
            for slot, one in self._slots.items()
            if one.table.kind == kind
            and (alone if one.table.model == ALONE else source is not None)
        ]
        fitting.sort(key=lambda slot: -self._slots[slot].used)
        best: _Trial | None = None
        for slot in fitting[: 1 if first_only else _TRIED_MAX]:
            trial = self._try(slot, source, target)
            if trial is not None and (best is None or trial.payload_bits < best.payload_bits):
                best = trial
        return best

    def _try(self, slot: int, source: Bits | None, target: Bits) -> _Trial | None:
        one = self._slots[slot]
        levels = None
        level_bits = 0.0
        if one.inverse_means is not None:
            assert source is not None
            found = coder.levels(one.table.kind, source, target, one.inverse_means)
            levels = np.minimum(found, np.uint8(one.table.levels - 1))
            level_bits = fit.total(fit.transitions(levels), one.level_costs)
        if one.table.model == ALONE:
            source = None
        counts = coder.histogram(one.table, source, target, levels).astype(np.float64)
        coded = fit.total(counts, one.costs)
        if not np.isfinite(coded + level_bits):
            return None
        rest = float((counts * one.raw_bits).sum()) + level_bits
        gain = coded - float(fit.entropy_bits(counts).sum())
        return _Trial(slot=slot, levels=levels, payload_bits=coded + rest, refit_gain_bits=gain)

    def _serves(self, trial: _Trial, count: int, known: bool, following: float) -> bool:
        """Whether there is no need to look for another table."""
        table_bits = 8 * self._slots[trial.slot].table_bytes
        gain = trial.refit_gain_bits * (1 + min(following, _FOLLOWING_MAX))
        if known or count < _FEW_ELEMENTS:
            return gain < table_bits
        return trial.payload_bits < table_bits

    def _reused(self, trial: _Trial) -> Choice:
        one = self._slots[trial.slot]
        self._clock += 1
        one.used = self._clock
        return _choice(one.table, trial.slot, trial.levels, trial.payload_bits, 0)

    def _new(self, made: Fit) -> Choice:
        self._clock += 1
        if self._free:
            slot = self._free.pop()
        else:
            slot = min(self._slots, key=lambda one: self._slots[one].used)
        self._slots[slot] = _InForce(
            table=made.table,
            inverse_means=made.inverse_means,
            costs=fit.code_bits(made.table),
            raw_bits=fit.raw_bits(made.table),
            level_costs=fit.level_costs(made.table),
            table_bytes=made.table_bytes,
            used=self._clock,
        )
        return _choice(made.table, slot, made.levels, made.payload_bits, made.table_bytes)


def _choice(
    table: CodeTable, slot: int, levels: Levels | None, payload_bits: float, table_bytes: int
) -> Choice:
    payload_bytes = int(payload_bits / 8) + 1
    lanes_log2 = next(log2 for least, log2 in _LANES if payload_bytes >= least)
    return Choice(
        table=table,
        slot=slot,
        levels=levels,
        lanes_log2=lanes_log2,
        cost_bytes=payload_bytes + (4 << lanes_log2) + table_bytes,
        table_bytes=table_bytes,
    )


def _fitted(kind: ElementKind, source: Bits | None, target: Bits, *, alone: bool) -> Fit | None:
    """The cheapest of the models that can be cheapest."""
    fitter = Fitter(kind, source, target)
    best = fitter.fit(DIFFERENCE, levels=True) if source is not None else None
    # Without a prediction an element takes its mantissa at least.
    least = len(target) * (kind.mantissa_bits or _INTEGER_BITS)
    if best is not None and best.payload_bits <= least:
        return best
    others = [fitter.fit(ALONE, levels=False)] if alone else []
    if source is not None and kind.is_float:
        others.append(fitter.fit(GIVEN, levels=False))
    found = [one for one in (best, *others) if one is not None]
    return min(found, key=lambda one: one.cost_bits, default=None)
