"""Which code table codes a record: one in force, or a new one. Nothing here is part of the
format.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder
from edge_sdk.delta.coder import estimate
from edge_sdk.delta.coder.estimate import Counts, Levels
from edge_sdk.delta.coder.fit import Fit, Fitter
from edge_sdk.delta.coder.leaning import (
    LeaningKind,
    Leans,
    as_written,
    leaning_kind,
    standing_source,
    standing_target,
)
from edge_sdk.delta.coder.leveling import Leveling
from edge_sdk.delta.coder.strays import lacks, stray_groups
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCE, GIVEN, LEVEL_ELEMENTS, CodeTable
from edge_sdk.delta.container import CODE_SLOTS, PREDICTION_SLOTS
from edge_sdk.delta.numeric import KINDS, Bits, ElementKind

# A table in force that was used longer ago than this many others is not tried.
_TRIED_MAX = 4
# Records of fewer elements than this take what is in force, if it serves.
_FEW_ELEMENTS = 4096
# What a new table gains here it gains again in so many of the records that follow, at most.
_FOLLOWING_MAX = 8.0
# A small tensor's first record looks for another table from this share of its bytes on.
_UNKNOWN_SHARE = 0.5
# Tables are made to last where a tensor has this many more records, or this many elements.
# What frequencies cost by which others were learnt, for each symbol of a table, about.
_LEARNT_BITS = 1.45
_LASTING = 0.25
_MANY_ELEMENTS = 1 << 16
# So many records of a tensor are coded like the one before without a look at others.
_UNSEEN_MAX = 3
# But none that has so many times its elements: a tensor's first record may be a small part.
_UNSEEN_TIMES_MAX = 4
# One in so many groups of elements may take the table of all symbols.
_ESCAPED_SHARE = 16
# Integers that are predicted this well are not tried alone.
_INTEGER_BITS = 1
_HALVES = tuple(kind for kind in KINDS if kind.name in {"float16", "bfloat16"})
_ALSO = {kind.name: tuple(one for one in _HALVES if one != kind) for kind in _HALVES}
# Lanes by the least bytes of a stream: their states are to be a small part of it.
_LANES = ((48 << 10, 5), (16 << 10, 3), (0, 0))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Elements:
    """Elements of shape (n,), predicted by ``source`` or alone (None)."""

    kind: ElementKind
    source: Bits | None
    target: Bits

    def histogram(self, table: CodeTable, levels: Levels | None) -> Counts:
        return coder.histogram(table, self.source, self.target, levels).astype(np.float64)

    def fitter(self, lasting: bool) -> Fitter:
        return Fitter(kind=self.kind, source=self.source, target=self.target, lasting=lasting)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The elements of one record, and what stands in for them where their prediction leans."""

    plain: _Elements
    leaning: _Elements | None

    def serves(self, one: _InForce) -> bool:
        """Whether a table is for such elements."""
        if isinstance(one.kind, LeaningKind):
            return self.leaning is not None and self.leaning.kind == one.kind
        predicted = self.plain.source is not None or one.table.model == ALONE
        return predicted and self.plain.kind == one.kind

    def of(self, one: _InForce) -> _Elements:
        """The elements that the table is for."""
        if isinstance(one.kind, LeaningKind):
            assert self.leaning is not None
            return self.leaning
        return replace(self.plain, source=None) if one.table.model == ALONE else self.plain


@dataclass(slots=True, kw_only=True)
class _InForce:
    """``kind`` is that of the elements (or what stands in for them), which the table may take for
    another of their width.
    ``loss_share``: of the bits of its symbols, what frequencies lose by being rounded."""

    kind: ElementKind
    table: CodeTable
    leveling: Leveling | None
    escape: bool
    costs: Counts
    raw_bits: Counts
    level_costs: Counts
    loss_share: float
    table_bytes: int
    used: int


@dataclass(slots=True, kw_only=True)
class _Trial:
    """What a table in force would cost, and how much less with its frequencies made anew."""

    slot: int
    levels: Levels | None
    payload_bits: float
    refit_gain_bits: float
    symbols: int


class Policy:
    """Remembers the tables in force, as far as its choices were written."""

    def __init__(self, slots: int = CODE_SLOTS) -> None:
        self._free = list(range(PREDICTION_SLOTS + slots - 1, PREDICTION_SLOTS - 1, -1))
        self._slots: dict[int, _InForce] = {}
        self._clock = 0
        self._tensor: Hashable = None
        self._last: Choice | None = None
        self._last_count = 0
        self._unseen = _UNSEEN_MAX

    def choose(
        self,
        kind: ElementKind,
        source: Bits | None,
        target: Bits,
        *,
        leans: Leans | None = None,
        alone: bool = True,
        following: float = 0.0,
        tensor: Hashable = None,
        sure: bool = True,
    ) -> Choice | None:
        """For elements of shape (n,), predicted by ``source`` or alone (None). ``leans``: those of
        the prediction, where it has them.

        ``alone``: whether a prediction may be passed over. ``following``: how many more
        records like this one the tensor has; ``tensor`` tells tensors apart. A choice that
        need not be ``sure`` may turn out to lack a symbol. None where there are no elements, or
        too different ones for a code.
        """
        if not len(target):
            return None
        known, self._tensor = tensor is not None and tensor == self._tensor, tensor
        plain = _Elements(kind=kind, source=source, target=target)
        given = _Given(plain=plain, leaning=_leaning(plain, leans))
        if known and not sure and self._unseen < _UNSEEN_MAX and self._repeats(given):
            self._unseen += 1
            return self._unchecked(given)
        choice = self._checked(given, alone=alone, known=known, following=following)
        self._unseen = 0 if choice is not None and tensor is not None else _UNSEEN_MAX
        self._last = choice
        return choice

    def _repeats(self, given: _Given) -> bool:
        """Whether the last choice can be made once more."""
        assert self._last is not None
        one = self._slots[self._last.slot]
        return given.serves(one) and len(given.plain.target) <= _UNSEEN_TIMES_MAX * self._last_count

    def _unchecked(self, given: _Given) -> Choice:
        """The last choice once more."""
        assert self._last is not None
        one = self._slots[self._last.slot]
        levels = _levels(one, given.of(one))
        share = len(given.plain.target) / max(1, self._last_count)
        return replace(
            self._last, levels=levels, table_bytes=0, cost_bytes=int(self._last.cost_bytes * share)
        )

    def _checked(
        self, given: _Given, *, alone: bool, known: bool, following: float
    ) -> Choice | None:
        count = self._last_count = len(given.plain.target)
        trial = self._best_in_force(given, alone=alone, first_only=known)
        if trial is not None and self._serves(trial, count, known, following):
            return self._reused(trial)
        lasting = following >= _LASTING or count >= _MANY_ELEMENTS
        leaning = None if given.leaning is None else given.leaning.fitter(lasting)
        made = best_fit(given.plain.fitter(lasting), leaning, alone=alone)
        if made is None:
            return None if trial is None else self._reused(trial)
        if trial is not None:
            here = trial.payload_bits - made.payload_bits
            symbols = sum(len(one.symbols) for one in made.table.tables)
            elsewhere = max(0.0, here - _LEARNT_BITS * symbols)
            gain = here + elsewhere * min(following, _FOLLOWING_MAX)
            if gain < 8 * made.table_bytes:
                return self._reused(trial)
        return self._new(given.plain.kind, made)

    # --- tables in force --------------------------------------------------------------

    def _best_in_force(self, given: _Given, *, alone: bool, first_only: bool) -> _Trial | None:
        fitting = [
            slot
            for slot, one in self._slots.items()
            if given.serves(one) and (alone or one.table.model != ALONE)
        ]
        fitting.sort(key=lambda slot: -self._slots[slot].used)
        best: _Trial | None = None
        for slot in fitting[: 1 if first_only else _TRIED_MAX]:
            trial = self._try(slot, given)
            if trial is not None and (best is None or trial.payload_bits < best.payload_bits):
                best = trial
        return best

    def _try(self, slot: int, given: _Given) -> _Trial | None:
        one = self._slots[slot]
        part = given.of(one)
        levels = _levels(one, part)
        counts = part.histogram(one.table, levels)
        lacking = lacks(counts, one.costs)
        if lacking.any():
            levels = _escaped(one, part, levels, lacking)
            if levels is None:
                return None
            counts = part.histogram(one.table, levels)
            if lacks(counts, one.costs).any():
                return None
        coded = estimate.total(counts, one.costs)
        rest = float((counts * one.raw_bits).sum())
        if levels is not None:
            rest += estimate.total(estimate.transitions(levels), one.level_costs)
        gain = coded * (1 - one.loss_share) - float(estimate.entropy_bits(counts).sum())
        return _Trial(
            slot=slot,
            levels=levels,
            payload_bits=coded + rest,
            refit_gain_bits=gain,
            symbols=int(np.count_nonzero(counts)),
        )

    def _serves(self, trial: _Trial, count: int, known: bool, following: float) -> bool:
        """Whether there is no need to look for another table."""
        table_bits = 8 * self._slots[trial.slot].table_bytes
        # What others of the tensor would gain; on these elements alone it is a little more.
        lasting = max(0.0, trial.refit_gain_bits - _LEARNT_BITS * trial.symbols)
        gain = trial.refit_gain_bits + lasting * min(following, _FOLLOWING_MAX)
        if known or count < _FEW_ELEMENTS or following >= 1:
            return gain < table_bits
        return gain < table_bits * _UNKNOWN_SHARE

    def _reused(self, trial: _Trial) -> Choice:
        one = self._slots[trial.slot]
        self._clock += 1
        one.used = self._clock
        return _choice(one.table, trial.slot, trial.levels, trial.payload_bits, 0)

    def _new(self, kind: ElementKind, made: Fit) -> Choice:
        self._clock += 1
        if self._free:
            slot = self._free.pop()
        else:
            slot = min(self._slots, key=lambda one: self._slots[one].used)
        leaning = isinstance(made.table.kind, LeaningKind)
        self._slots[slot] = _InForce(
            kind=made.table.kind if leaning else kind,
            table=made.table,
            leveling=made.leveling,
            escape=made.escape,
            costs=estimate.code_bits(made.table),
            raw_bits=estimate.raw_bits(made.table),
            level_costs=estimate.level_costs(made.table),
            loss_share=made.loss_share,
            table_bytes=made.table_bytes,
            used=self._clock,
        )
        return _choice(made.table, slot, made.levels, made.payload_bits, made.table_bytes)


def _leaning(plain: _Elements, leans: Leans | None) -> _Elements | None:
    """What stands in for elements with leans, if any leans."""
    if plain.source is None or leans is None or not leans.any():
        return None
    kind, source, target = plain.kind, plain.source, plain.target
    return _Elements(
        kind=leaning_kind(kind),
        source=standing_source(kind, source, leans),
        target=standing_target(kind, source, target, leans),
    )


def _levels(one: _InForce, part: _Elements) -> Levels | None:
    """As when the table was made."""
    if one.table.levels == 1:
        return None
    if one.leveling is None:
        return np.zeros(-(-len(part.target) // LEVEL_ELEMENTS), np.uint8)
    found = one.leveling.levels(part.source, part.target)
    return np.minimum(found, np.uint8(one.table.levels - 1 - one.escape))


def _escaped(
    one: _InForce, part: _Elements, levels: Levels | None, lacking: NDArray[np.bool_]
) -> Levels | None:
    """Levels with the last one where elements have symbols that their table lacks; None where
    there are too many such places."""
    if not one.escape or levels is None or part.source is None:
        return None
    room = max(1, len(levels) // _ESCAPED_SHARE)
    groups = stray_groups(
        one.table,
        part.source,
        part.target,
        code_bits=one.costs,
        lacking=lacking,
        levels=levels,
        groups_max=room,
    )
    if groups is None:
        return None
    found = levels.copy()
    found[groups] = one.table.levels - 1
    return found


def _choice(
    table: CodeTable, slot: int, levels: Levels | None, payload_bits: float, table_bytes: int
) -> Choice:
    payload_bytes = int(payload_bits / 8) + 1
    lanes_log2 = next(log2 for least, log2 in _LANES if payload_bytes >= least)
    return Choice(
        table=as_written(table),
        slot=slot,
        levels=levels,
        lanes_log2=lanes_log2,
        cost_bytes=payload_bytes + (4 << lanes_log2) + table_bytes,
        table_bytes=table_bytes,
    )


def best_fit(fitter: Fitter, leaning: Fitter | None = None, *, alone: bool) -> Fit | None:
    """The cheapest of the models that can be cheapest; ``leaning`` is for what stands in for the
    elements where their prediction leans."""
    kind = fitter.kind
    found = []
    if fitter.source is not None:
        found.append(fitter.fit(fitter.difference_model()))
    if leaning is not None:
        found.append(leaning.fit(DIFFERENCE))
    best = _cheapest(found)
    # Without a prediction an element takes its mantissa at least.
    least = len(fitter.target) * (kind.mantissa_bits or _INTEGER_BITS)
    if best is not None and best.payload_bits <= least:
        return best
    found = [best]
    # The first bits of a mantissa are not quite even: a kind with fewer has them in symbols.
    for one in (fitter, *(replace(fitter, kind=other) for other in _ALSO.get(kind.name, ()))):
        models = [ALONE] * alone + [GIVEN] * (fitter.source is not None and kind.is_float)
        found += [one.fit(model) for model in models]
    return _cheapest(found)


def _cheapest(found: Iterable[Fit | None]) -> Fit | None:
    made = (one for one in found if one is not None)
    return min(made, key=lambda one: one.cost_bits, default=None)
