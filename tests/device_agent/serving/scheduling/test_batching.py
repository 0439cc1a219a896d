"""How many rows are worth running together."""

from __future__ import annotations

import pytest

from device_agent.serving.scheduling.batching import BatchCosts, sizes

# Measured, in µs for one row at 1, 2, 4 and 8 rows a run.
WEIGHT_BOUND = (200, 108, 66, 62)
TINY = (4.2, 2.1, 1.1, 0.6)
CONVOLUTION = (766, 784, 786, 792)
LEVELS_OFF = (100, 60, 59, 59)


@pytest.mark.parametrize(
    ("each_us", "worth"), [(WEIGHT_BOUND, 8), (TINY, 8), (CONVOLUTION, 1), (LEVELS_OFF, 2)]
)
def test_it_pays_where_weights_are_most_of_the_cost(each_us: tuple[float, ...], worth: int) -> None:
    """Rows run together as long as each of them costs less that way."""
    costs = BatchCosts(8)
    for rows, us in zip((1, 2, 4, 8), each_us, strict=True):
        costs.measured(rows, int(us * rows * 1000))
        costs.measured(rows, int(us * rows * 3000))  # with a neighbour's noise in it
    assert costs.best == worth


def test_what_was_not_measured_is_not_used() -> None:
    """Without costs nothing runs together; with those of small sizes, no larger ones do."""
    costs = BatchCosts(8)
    assert costs.best == 1
    costs.measured(1, 1000)
    costs.measured(2, 1100)
    assert costs.best == 2
    costs.observed(8, 1)
    assert costs.best == 2


def test_it_learns_from_what_runs() -> None:
    """Where a size turns out dearer than when it was measured, it is given up in a while."""
    costs = BatchCosts(4)
    for rows in (1, 2, 4):
        costs.measured(rows, 1000)
    assert costs.best == 4
    for _ in range(200):
        costs.observed(4, 8000)
    assert costs.best == 2


def test_what_never_paid_does_not_begin_to_beside_others() -> None:
    """Single rows that get slower because others run too make no larger size worth it: it would
    be slower as well."""
    costs = BatchCosts(8)
    for rows, us in zip((1, 2, 4, 8), CONVOLUTION, strict=True):
        costs.measured(rows, us * rows * 1000)
    for _ in range(200):
        costs.observed(1, 2 * CONVOLUTION[0] * 1000)
    assert costs.best == 1


def test_sizes_end_at_the_limit() -> None:
    """Powers of two, and whatever the limit is."""
    assert list(sizes(1)) == [1]
    assert list(sizes(6)) == [1, 2, 4, 6]
    assert list(sizes(8)) == [1, 2, 4, 8]


def test_a_little_saving_is_not_worth_a_wait() -> None:
    """Runs beside each other slow each other down: what looks a fifth cheaper together is not."""
    costs = BatchCosts(8)
    for rows, ns in ((1, 1000), (2, 1700), (4, 3300), (8, 6400)):
        costs.measured(rows, ns)
    assert costs.best == 1
