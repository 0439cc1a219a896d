"""Which code tables are made and used again, and what a choice promises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edge_sdk.delta import coder
from edge_sdk.delta.coder.policy import Choice, Policy
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCE, GIVEN, LEANING, UNREFLECTED, pack
from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.value_maps import NUMBER_KINDS, Unrounded, cast
from tests.support.deltas import weights

INT8, INT64, FLOAT16, BFLOAT16, FLOAT32 = (KINDS[number] for number in (0, 3, 4, 5, 6))
COUNT = 40_000


@dataclass
class Tensor:
    """Weights and their fine-tune, as bits of a kind."""

    kind: ElementKind
    source: np.ndarray
    target: np.ndarray


def tensor(
    kind: ElementKind, *, step: float, seed: int = 1, count: int = COUNT, rows: float = 0.0
) -> Tensor:
    """``step`` against weights of 0.05; ``rows`` spreads the sizes of groups of 512."""
    chance = np.random.default_rng(seed)
    before = chance.normal(0, 0.05, count).astype("<f4")
    sizes = np.repeat(np.exp(rows * chance.normal(size=count // 512 + 1)), 512)[:count]
    after = (before + step * sizes * chance.normal(size=count)).astype("<f4")
    return Tensor(kind, *(_bits(kind, values) for values in (before, after)))


def _bits(kind: ElementKind, values: np.ndarray) -> np.ndarray:
    if kind is FLOAT32:
        return values.view("<u4")
    if kind is FLOAT16:
        return values.astype("<f2").view("<u2")
    if kind is BFLOAT16:
        return (values.view("<u4") >> 16).astype("<u2")
    return np.clip(np.rint(values * 500), -128, 127).astype("i1").view(np.uint8)


def stream_of(one: Tensor, choice: Choice) -> bytes:
    source = None if choice.table.model == ALONE else one.source
    made = coder.encode(choice.table, source, one.target, choice.levels, 1 << choice.lanes_log2)
    assert made is not None
    lanes = 1 << choice.lanes_log2
    found = np.empty_like(one.target)
    coder.decode(choice.table, source, lanes, made, found)
    assert np.array_equal(found, one.target)
    return made


def chosen(policy: Policy, one: Tensor, **options: object) -> Choice:
    choice = policy.choose(one.kind, one.source, one.target, **options)
    assert choice is not None
    return choice


@pytest.mark.parametrize("kind", [INT8, FLOAT16, BFLOAT16, FLOAT32], ids=lambda one: one.name)
@pytest.mark.parametrize("step", [1e-6, 1e-4, 1e-2, 1.0])
def test_costs_are_those_of_the_stream(kind: ElementKind, step: float) -> None:
    """What a choice says is what coding takes, within a per cent and some bytes."""
    one = tensor(kind, step=step)
    choice = chosen(Policy(), one)
    taken = len(stream_of(one, choice)) + choice.table_bytes
    assert abs(taken - choice.cost_bytes) < 0.01 * taken + 64
    assert choice.table_bytes >= len(pack(choice.table))


def test_near_revisions_are_differences_and_far_ones_are_not() -> None:
    """A fine-tune is coded by its difference, what has nothing to do with it alone or given."""
    assert chosen(Policy(), tensor(FLOAT32, step=1e-4)).table.model == DIFFERENCE
    far = tensor(FLOAT32, step=1.0)
    far.target = tensor(FLOAT32, step=0, seed=9).source
    assert chosen(Policy(), far).table.model in (GIVEN, ALONE)
    assert chosen(Policy(), far, alone=False).table.model in (GIVEN, DIFFERENCE)


def test_without_a_prediction_elements_are_coded_alone() -> None:
    """The only model that needs no source."""
    choice = Policy().choose(BFLOAT16, None, tensor(BFLOAT16, step=0).target)
    assert choice is not None
    assert choice.table.model == ALONE
    assert choice.cost_bytes < 0.72 * 2 * COUNT


def test_levels_pay_where_rows_differ() -> None:
    """Groups of very different sizes have levels; alike ones have at most that of all symbols."""
    assert chosen(Policy(), tensor(BFLOAT16, step=1e-4, rows=1.5)).table.levels > 2
    assert chosen(Policy(), tensor(BFLOAT16, step=1e-4)).table.levels == 1


@pytest.mark.parametrize("kind", [FLOAT16, BFLOAT16, FLOAT32], ids=lambda one: one.name)
def test_updates_that_all_go_one_way_are_not_reflected(kind: ElementKind) -> None:
    """Where every weight falls, whatever its sign, the sign of the source says nothing."""
    chance = np.random.default_rng(3)
    before = chance.normal(0, 0.05, COUNT).astype("<f4")
    after = (before - 1e-3 * chance.random(COUNT)).astype("<f4")
    one = Tensor(kind, _bits(kind, before), _bits(kind, after))
    choice = chosen(Policy(), one)
    assert choice.table.model == UNREFLECTED
    taken = len(stream_of(one, choice))
    assert abs(taken + choice.table_bytes - choice.cost_bytes) < 0.01 * taken + 64


def test_a_table_serves_the_records_that_follow() -> None:
    """The second record of a tensor, and another tensor alike, bring no table."""
    policy = Policy()
    parts = [tensor(BFLOAT16, step=1e-5, seed=seed) for seed in range(4)]
    first = chosen(policy, parts[0], following=3.0, tensor="a")
    assert first.table_bytes
    for one, name in zip(parts[1:], ("a", "a", "b"), strict=True):
        choice = chosen(policy, one, following=1.0, tensor=name)
        assert (choice.table_bytes, choice.slot) == (0, first.slot)
        stream_of(one, choice)


def test_a_table_that_no_longer_fits_is_replaced() -> None:
    """Where the steps become a hundred times larger, a new table comes into another slot."""
    policy = Policy()
    first = chosen(policy, tensor(BFLOAT16, step=1e-6), following=3.0, tensor="a")
    second = chosen(policy, tensor(BFLOAT16, step=1e-4), following=2.0, tensor="a")
    assert second.table_bytes
    assert second.slot != first.slot


def test_slots_are_used_again_when_all_are_taken() -> None:
    """With two slots a third table takes that of the first."""
    policy = Policy(slots=2)
    kinds = [BFLOAT16, FLOAT32, INT8]
    slots = [chosen(policy, tensor(kind, step=1e-4)).slot for kind in kinds]
    assert slots == [8, 9, 8]
    assert chosen(policy, tensor(FLOAT32, step=1e-4)).table_bytes == 0
    assert chosen(policy, tensor(BFLOAT16, step=1e-4)).table_bytes


def test_stray_elements_take_the_level_of_all_symbols() -> None:
    """A few changes of sign among small steps need no new table, and come back."""
    policy = Policy()
    chosen(policy, tensor(BFLOAT16, step=1e-5, count=1 << 16), following=3.0, tensor="a")
    stray = tensor(BFLOAT16, step=1e-5, seed=2, count=1 << 16)
    stray.target[[100, 40_000]] ^= 0x8000
    choice = chosen(policy, stray, following=2.0, tensor="a")
    assert choice.table_bytes == 0
    assert choice.levels is not None
    assert np.flatnonzero(choice.levels == choice.table.levels - 1).tolist() == [0, 156]
    stream_of(stray, choice)


def test_unsure_choices_are_checked_now_and_then() -> None:
    """Of a tensor's records most take the table before them unseen; a sure one never lacks."""
    policy = Policy()
    chosen(policy, tensor(BFLOAT16, step=1e-6, count=1 << 16), following=9.0, tensor="a")
    far = tensor(BFLOAT16, step=0.05, count=1 << 16)
    unseen = [chosen(policy, far, tensor="a", sure=False) for _ in range(4)]
    assert [one.table_bytes > 0 for one in unseen] == [False, False, False, True]
    first = unseen[0]
    assert coder.encode(first.table, far.source, far.target, first.levels, 8) is None
    stream_of(far, chosen(policy, far, tensor="a"))


def test_nothing_is_chosen_for_nothing() -> None:
    """No elements, and elements with more symbols than a table holds."""
    empty = np.zeros(0, np.uint8)
    assert Policy().choose(INT8, empty, empty) is None
    chance = np.random.default_rng(1)
    wide = chance.integers(0, 2**64, 200_000, np.uint64)
    alone = Policy().choose(KINDS[7], None, wide)
    assert alone is None


def test_the_same_elements_are_coded_the_same_way() -> None:
    """A choice depends on what was chosen before, and on nothing else."""
    one = Tensor(FLOAT16, weights("float16", 5000, 1), weights("float16", 5000, 2))
    first, again = (chosen(Policy(), one) for _ in range(2))
    assert first.table == again.table
    assert stream_of(one, first) == stream_of(one, again)


# --- leans ------------------------------------------------------------------------------


def leaning(kind: ElementKind, *, seed: int = 1, share: float = 0.3) -> tuple[Tensor, np.ndarray]:
    """Weights that a known step moves by a part of what they are rounded to, and their leans."""
    numbers = NUMBER_KINDS[kind.name]
    chance = np.random.default_rng(seed)
    whole = chance.normal(0, 20, COUNT) if kind is INT8 else chance.normal(0, 0.05, COUNT)
    before = Unrounded(numbers=whole.astype("<f4"), kind=NUMBER_KINDS["float32"]).rounded(numbers)
    size = {"int8": 1.0, "float16": 2.0**-15, "bfloat16": 2.0**-12}[kind.name]
    exact = Unrounded(
        numbers=(as_float(before, kind) + share * size * chance.normal(size=COUNT)).astype("<f4"),
        kind=NUMBER_KINDS["float32"],
    )
    after = exact.numbers + 0.05 * size * chance.normal(size=COUNT).astype("<f4")
    made = Unrounded(numbers=after, kind=exact.kind).rounded(numbers)
    pair = (one.view(kind.bits) for one in (exact.rounded(numbers), made))
    return Tensor(kind, *pair), exact.leans(numbers)


def as_float(numbers: np.ndarray, kind: ElementKind) -> np.ndarray:
    if kind is INT8:
        return numbers.astype("<f4")
    return cast(numbers, NUMBER_KINDS[kind.name], NUMBER_KINDS["float32"])


@pytest.mark.parametrize("kind", [INT8, FLOAT16, BFLOAT16], ids=lambda one: one.name)
def test_leans_are_used_where_they_tell(kind: ElementKind) -> None:
    """What is left is far less than without them, is what the choice said, and comes back."""
    one, leans = leaning(kind)
    plain = chosen(Policy(), one)
    choice = chosen(Policy(), one, leans=leans)
    assert choice.table.model == LEANING
    assert choice.cost_bytes < 0.85 * plain.cost_bytes
    lanes = 1 << choice.lanes_log2
    stream = coder.encode(choice.table, one.source, one.target, choice.levels, lanes, leans=leans)
    assert stream is not None
    took = len(stream) + choice.table_bytes
    assert took == pytest.approx(choice.cost_bytes, rel=0.01, abs=40)
    found = np.empty_like(one.target)
    coder.decode(choice.table, one.source, lanes, stream, found, leans=leans)
    assert np.array_equal(found, one.target)


def test_a_table_for_leans_serves_only_elements_with_leans() -> None:
    """It is used again for others that lean, and passed over where nothing leans."""
    policy = Policy()
    first, leans = leaning(BFLOAT16)
    made = chosen(policy, first, leans=leans, following=3)
    again, other_leans = leaning(BFLOAT16, seed=2)
    used = chosen(policy, again, leans=other_leans)
    assert (used.slot, used.table_bytes, used.table.model) == (made.slot, 0, LEANING)
    unknown = chosen(policy, again)
    assert unknown.table.model != LEANING
    without = chosen(policy, again, leans=np.zeros(COUNT, np.uint8))
    assert without.table.model != LEANING
