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
_LOOK_EVERY = 8  # measurements
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
        self.best = 1  # the most rows that should run together; 1: each request alone
        self._most = rows_max  # what paid with nothing else beside it: others only slow runs
        self._ns: dict[int, float] = {}
        self._learnt = 0

    def measured(self, rows: int, ns: int) -> None:
        """A run with nothing else beside it: what it took least is what it costs."""
        self._ns[rows] = min(ns, self._ns.get(rows, ns))
        self._most = self.rows_max
        self._look()
        self._most = self.best

    def observed(self, rows: int, ns: int) -> None:
        """A run of a request: sizes that were not measured before are left to be."""
        if rows in self._ns:
            self._ns[rows] += (ns - self._ns[rows]) * _NEW_PART
            self._learnt += 1
            if self._learnt % _LOOK_EVERY == 0:
                self._look()

    def _look(self) -> None:
        known = [rows for rows in sizes(self.rows_max) if rows in self._ns]
        each_ns = {rows: self._ns[rows] / rows for rows in known}
        best = 1
        for rows in known if 1 in each_ns else ():
            if each_ns[rows] <= _WORTH * each_ns[best] and each_ns[rows] <= _PAYS * each_ns[1]:
                best = rows
        self.best = min(best, self._most)
