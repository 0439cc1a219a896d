"""How many requests of a model are worth running as one, learnt from what runs cost. Pure.

Running together pays where reading weights or starting the engine is most of the cost, and
not where arithmetic is: convolutions on a CPU cost as much for each of eight as for one. So
the cost of each size decides, measured when the model is loaded and ever since.
"""

from __future__ import annotations

from collections.abc import Iterator

_WORTH = 0.96  # a larger size must cost at most this much for each row
# And this much beside one that runs alone. Two that run at once slow each other, by a third
# where cores share a pipeline, and so make a batch of convolutions look cheaper than it is.
_PAYS = 0.75
_NEW_PART = 1 / 16  # of each later measurement in the average


def sizes(rows_max: int) -> Iterator[int]:
    """Powers of two below, and ``rows_max``: the sizes that are measured."""
    size = 1
    while size < rows_max:
        yield size
        size *= 2
    yield rows_max


class BatchCosts:
    """Nanoseconds by rows of one loaded model. Not for two threads at once."""

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self._ns: dict[int, float] = {}

    def measured(self, rows: int, ns: int) -> None:
        """A run with nothing else beside it: what it took least is what it costs."""
        self._ns[rows] = min(ns, self._ns.get(rows, ns))

    def observed(self, rows: int, ns: int) -> None:
        """A run of a request: sizes that were not measured before are left to be."""
        if rows in self._ns:
            self._ns[rows] += (ns - self._ns[rows]) * _NEW_PART

    def ns(self, rows: int) -> float:
        """About what a run of so many costs: that of the next size that was measured."""
        return min((ns for size, ns in self._ns.items() if size >= rows), default=0.0)

    def saved_ns(self, rows: int) -> float:
        """What a run of so many saves, against each alone."""
        return max(0.0, rows * self.ns(1) - self.ns(rows))

    def worth(self) -> int:
        """The most rows that should run together; 1: each request alone."""
        best = 1
        for rows in sizes(self.rows_max):
            if rows == 1 or not {rows, best} <= self._ns.keys():
                continue
            cost = self._ns[rows] / rows
            if cost <= _WORTH * self._ns[best] / best and cost <= _PAYS * self._ns[1]:
                best = rows
        return best


class Crowd:
    """How many requests of a model come at the same time, by what was seen. Pure.

    Whoever would run waits for as many as came together before, and no longer than running them
    as one saves: so one client never waits, and where those expected do not come, they are not
    expected again.
    """

    __slots__ = ("expected",)

    def __init__(self) -> None:
        self.expected = 1

    def seen(self, in_flight: int) -> None:
        """So many requests were there at once."""
        self.expected = max(self.expected, in_flight)

    def missed(self, rows: int) -> None:
        """Only so many came in the time."""
        self.expected = rows
