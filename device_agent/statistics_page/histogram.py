"""Times in buckets, four to each power of two: percentiles within ``ERROR_MAX``. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.statistics_page.layout import BUCKETS

# A bucket's upper end is at most 5/4 of its lower one; what stands for it is as far from
# either, relative to the true value: 1/9.
ERROR_MAX = 1 / 9
TIME_NS_MAX = (1 << 39) - 1  # nine minutes; four of them together still have a bucket

_RANK_SLACK = 1e-9  # 0.9 * 10 is a little more than 9

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def bucket_of(time_ns: int) -> int:
    """Which bucket counts a time from 0 to 4 * ``TIME_NS_MAX``."""
    bits = time_ns.bit_length()
    return time_ns if bits < 3 else (bits << 2) - 12 + (time_ns >> (bits - 3))


def bounds_ns(bucket: int) -> tuple[int, int]:
    """The least and the greatest time that a bucket counts."""
    if bucket < 8:
        return bucket, bucket
    shift = (bucket >> 2) - 1
    low = (4 + (bucket & 3)) << shift
    return low, low + (1 << shift) - 1


def stands_for_ns(bucket: int) -> float:
    """The time whose relative distance to all times of a bucket is least."""
    low, high = bounds_ns(bucket)
    return 2 * low * high / (low + high) if low else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Times that were counted: how many in each bucket, and their exact sum."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    sum_ns: int = 0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def percentile_ns(self, share: float) -> float | None:
        """The time that ``share`` (0 to 1) of all stay at or below, at most ``ERROR_MAX`` off
        the nearest-rank one; None: nothing was counted."""
        rank = max(math.ceil(share * self.count - _RANK_SLACK), 1)
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if rank <= seen and count:
                return stands_for_ns(bucket)
        return None

    def percentiles_ns(self) -> dict[str, float | None]:
        """By the names of ``SHARES``."""
        return {name: self.percentile_ns(share) for name, share in SHARES.items()}

    def below(self, time_ns: int) -> int:
        """How many took less than ``time_ns``, which must be where a bucket begins."""
        return sum(self.counts[: bucket_of(time_ns)])

    def since(self, before: Histogram) -> Histogram:
        """What was counted after ``before``; all of it where that is of another life."""
        counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        if min(counts) < 0 or self.sum_ns < before.sum_ns:
            return self
        return Histogram(counts=tuple(counts), sum_ns=self.sum_ns - before.sum_ns)


def of(times_ns: Sequence[int]) -> Histogram:
    """For what was measured elsewhere."""
    counts = [0] * BUCKETS
    for time_ns in times_ns:
        counts[bucket_of(time_ns)] += 1
    return Histogram(counts=tuple(counts), sum_ns=sum(times_ns))
