"""What was measured of one load: figures over all of its requests, and over time.

A latency counts from the moment at which a request was *due*, not from when it could be
sent: a pause delays the requests behind it too, and would else hide in the generator
("coordinated omission", Gil Tene, How NOT to Measure Latency, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

OK, DROPPED = 0, -1  # outcomes; a positive one is the number of a kind of error
COLUMNS = 5  # due, sent, done, outcome, right (-1: no label)
RIGHT_SCALE = 1_000_000  # right is the share of rows that were, as a whole number of these
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}

_CURVE = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)
_NS_IN_MS = 1e6
_NS_IN_S = 1e9

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One row a request: (n, 5) of ``COLUMNS``, nanoseconds on one clock.

    ``kinds``: names of errors, the first of number 1. The window is what counts: from
    ``begin_ns`` (after warming up) to ``end_ns``. ``truncated``: asking ended before, at the
    most requests that are kept.
    """

    rows: Numbers
    kinds: tuple[str, ...]
    begin_ns: int
    end_ns: int
    truncated: bool = False

    def counted(self) -> Numbers:
        """Rows of requests that were due within the window."""
        due = self.rows[:, 0]
        return self.rows[(due >= self.begin_ns) & (due < self.end_ns)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Percentiles by nearest rank, milliseconds; None: there was nothing."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    p999: float | None = None
    mean: float | None = None
    largest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """``latency``: of answers, from when they were due; ``service``: from when they were sent.

    ``judged`` is ``latency`` with what failed or was dropped counted as later than any
    answer: goals are held to it, so that refusing the slow ones is no way to be fast.
    """

    seconds: float
    asked: int
    answered: int
    dropped: int
    failed: Mapping[str, int] = field(default_factory=dict)
    throughput: float
    latency: Spread
    service: Spread
    judged: Spread
    late_p99_ms: float | None  # from due to sent: the generator's own part
    accuracy: float | None = None
    truncated: bool = False

    @property
    def failures(self) -> float | None:
        """The share of requests without an answer."""
        return None if not self.asked else 1 - self.answered / self.asked


def rank(quantile: float, count: int) -> int:
    """Index of the nearest-rank quantile among ``count`` sorted values (at least one)."""
    # Rounded, since 0.999 * 1000 is a little more than 999 in binary.
    return max(math.ceil(round(quantile * count, 9)), 1) - 1


def spread(values_ns: Numbers, *, missing: int = 0) -> Spread:
    """``missing`` more values are larger than any: a quantile that falls among them is None."""
    ordered = np.sort(values_ns)
    count = len(ordered) + missing

    def at(quantile: float) -> float | None:
        index = rank(quantile, count) if count else 0
        return float(ordered[index]) / _NS_IN_MS if index < len(ordered) else None

    found = len(ordered) > 0
    return Spread(
        **{name: at(quantile) for name, quantile in QUANTILES.items()},
        mean=float(ordered.mean()) / _NS_IN_MS if found and not missing else None,
        largest=float(ordered[-1]) / _NS_IN_MS if found and not missing else None,
    )


def summarise(samples: Samples) -> Summary:
    """All figures of the window."""
    rows = samples.counted()
    due, sent, done, outcome, right = rows.T
    answered = outcome == OK
    seconds = max(samples.end_ns - samples.begin_ns, 0) / _NS_IN_S
    all_done = samples.rows[samples.rows[:, 3] == OK][:, 2]
    in_window = int(np.sum((all_done >= samples.begin_ns) & (all_done < samples.end_ns)))
    labelled = right >= 0
    failed = {
        kind: int(np.sum(outcome == number))
        for number, kind in enumerate(samples.kinds, 1)
        if np.any(outcome == number)
    }
    latency = (done - due)[answered]
    late = (sent - due)[outcome != DROPPED]
    return Summary(
        seconds=seconds,
        asked=len(rows),
        answered=int(np.sum(answered)),
        dropped=int(np.sum(outcome == DROPPED)),
        failed=failed,
        throughput=in_window / seconds if seconds else 0.0,
        latency=spread(latency),
        service=spread((done - sent)[answered]),
        judged=spread(latency, missing=len(rows) - int(np.sum(answered))),
        late_p99_ms=spread(late).p99,
        accuracy=float(np.mean(right[labelled])) / RIGHT_SCALE if np.any(labelled) else None,
        truncated=samples.truncated,
    )


def curve(samples: Samples) -> list[tuple[float, float]]:
    """(quantile, milliseconds) of answers, as far out as there are requests to tell."""
    rows = samples.counted()
    rows = rows[rows[:, 3] == OK]
    ordered = np.sort(rows[:, 2] - rows[:, 0])
    count = len(ordered)
    if not count:
        return []
    points = [
        (quantile, float(ordered[rank(quantile, count)]) / _NS_IN_MS)
        for quantile in _CURVE
        if quantile <= 1 - 1 / count
    ]
    return [*points, (1.0, float(ordered[-1]) / _NS_IN_MS)]


def over_time(samples: Samples, *, bins_max: int = 120) -> list[dict[str, Any]]:
    """Equal steps of the window: answers and failures each second, and their latencies.

    Requests belong to the step in which they were due; throughput to that of the answer.
    """
    whole_ns = samples.end_ns - samples.begin_ns
    if whole_ns <= 0:
        return []
    count = max(1, min(bins_max, int(whole_ns / (_NS_IN_S / 4))))
    edges = samples.begin_ns + np.arange(count + 1) * (whole_ns / count)
    rows = samples.counted()
    step_s = whole_ns / count / _NS_IN_S
    done = samples.rows[samples.rows[:, 3] == OK][:, 2]
    done = done[(done >= samples.begin_ns) & (done < samples.end_ns)]
    ended = np.bincount(np.searchsorted(edges, done, side="right") - 1, minlength=count)
    where = np.searchsorted(edges, rows[:, 0], side="right") - 1
    found = []
    for number in range(count):
        part = rows[where == number]
        answered = part[part[:, 3] == OK]
        seen = spread(answered[:, 2] - answered[:, 0])
        found.append(
            {
                "at_s": number * step_s,
                "seconds": step_s,
                "throughput": float(ended[number]) / step_s,
                "failures": float(len(part) - len(answered)) / step_s,
                "p50_ms": seen.p50,
                "p99_ms": seen.p99,
                "largest_ms": seen.largest,
            }
        )
    return found


def joined(parts: Sequence[Numbers]) -> Numbers:
    """Rows of several threads as one table."""
    found = [part.reshape(-1, COLUMNS) for part in parts]
    return np.concatenate(found) if found else np.empty((0, COLUMNS), np.int64)
