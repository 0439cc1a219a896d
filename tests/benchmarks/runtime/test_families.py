"""Each part of the benchmark makes a row for each target that it is there for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from benchmarks.rows import Row
from benchmarks.runtime import batching, eight, lane, priority, stock, swap, targets, update
from benchmarks.runtime.clients import Log
from benchmarks.runtime.ways import Taken

ROUNDS = 5


def taken(microseconds: float) -> Taken:
    return Taken(calls_us=[microseconds] * 100, cpu_us=50 * microseconds)


def places(**microseconds: float) -> dict[str, list[dict[str, Taken]]]:
    """The same in each round at each place; a way's dot is written as two underscores."""
    one = {name.replace("__", "."): taken(us) for name, us in microseconds.items()}
    return {place: [one] * ROUNDS for place in ("same-core", "other-core", "free")}


def log(*milliseconds: float, failed: int = 0) -> Log:
    return Log(
        sent_s=tuple(float(number) for number in range(len(milliseconds))),
        latencies_us=tuple(1000 * one for one in milliseconds),
        versions={"1.0.0": len(milliseconds)},
        failed=failed,
        errors=("wrong",) * bool(failed),
    )


def of_lane(triton: bool = True) -> list[Row]:
    ways = {
        **{"floor": 10.0, "bare__small": 3.0, "bare__large": 35.0},
        **{"lane__small": 20.0, "lane__large": 70.0},
    }
    if triton:
        ways |= {"triton__small": 500.0, "triton-shm__large": 600.0}
    return lane._rows(places(**ways))


def of_stock(triton: bool = True) -> list[Row]:
    ways = {"ours": 450.0, "ours-unix": 440.0, "echo": 400.0}
    return stock._rows(places(**ways, **({"triton": 500.0} if triton else {})))


def of_eight() -> list[Row]:
    rate = {"ours": 1800.0, "echo": 2000.0, "triton": 2100.0, "lane": 20000.0}
    return eight._rows({name: {"rate": [value] * ROUNDS} for name, value in rate.items()})


def of_swap() -> list[Row]:
    quiet, slow = log(1.0, 2.0), log(1.0, 9.0)
    return swap._rows(
        swap.Seen(
            swapped=[slow] * ROUNDS,
            control=[quiet] * ROUNDS,
            rss_bytes=[1e6] * 100,
            swap_ms=[20.0] * 100,
        )
    )


def of_priority() -> list[Row]:
    alone, beside = [log(6.0)] * ROUNDS, [log(12.0)] * ROUNDS
    return priority._rows([5.0] * ROUNDS, alone, beside, [100.0], [20.0])


def of_batching() -> list[Row]:
    alone = {way: {"p50": [100.0], "p99": [200.0]} for way in ("off", "adaptive")}
    rate = {"off": [1000.0], "adaptive": [1900.0], "window-2": [2000.0]}
    return [
        row
        for name in ("weights", "convolution")
        for row in batching._rows(name, alone, rate, rate)
    ]


def of_update() -> list[Row]:
    seen = update.Seen(steady=[[1.0]], during=[[4.0]], failed=[0.0])
    return update._rows(seen, seen, [3.0])


@pytest.mark.parametrize(
    ("family", "make"),
    [
        ("lane", of_lane),
        ("stock", of_stock),
        ("eight", of_eight),
        ("swap", of_swap),
        ("priority", of_priority),
        ("batching", of_batching),
        ("update", of_update),
    ],
)
def test_every_target_of_a_part_gets_its_row(
    family: str, make: Callable[[], Sequence[Row]]
) -> None:
    """With all anchors there, nothing that a part is aimed at stays unmeasured; figures that
    keep to the bounds meet them."""
    made = {one.id: one for one in make() if one.target is not None}
    assert set(made) == {one.id for one in targets.TARGETS if one.family == family}
    assert [one.id for one in made.values() if one.met is not True] == []


@pytest.mark.parametrize("make", [of_lane, of_stock])
def test_without_triton_its_rows_are_not_met(make: Callable[..., list[Row]]) -> None:
    """Where the anchor cannot be had, the comparison is not made, and nothing passes for it."""
    made = targets.complete(make(triton=False))
    compared = [one for one in made if one.target is not None and "triton" in one.id]
    assert compared
    assert all(one.value is None and one.met is None for one in compared)


def test_errors_under_swaps_are_counted_whatever_the_latency() -> None:
    """One wrong answer in one round misses the target of none."""
    seen = swap.Seen(
        swapped=[log(1.0), log(1.0, failed=1)],
        control=[log(1.0)] * 2,
        rss_bytes=[1e6] * 100,
        swap_ms=[20.0],
    )
    errors = next(one for one in swap._rows(seen) if one.id == "runtime.swap.errors")
    assert (errors.value, errors.met) == (1.0, False)


def test_memory_is_compared_from_the_tenth_swap_on() -> None:
    """What the first swaps need once is no growth; what comes later is, though one swap's
    moment is not."""
    steady = [5e6] * 9 + [10e6] * 90 + [30e6]
    assert swap._growth(steady) == 0
    assert swap._growth([10e6] * 50 + [11e6] * 50) == pytest.approx(10)
