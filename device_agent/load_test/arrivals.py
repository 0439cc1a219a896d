"""When requests are to be sent: a schedule that is fixed before the first one.

Independent users arrive as a Poisson process: exponential gaps of the mean 1/rate (Kingman,
Poisson Processes, 1993). A camera or a timer arrives at equal gaps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.load_test.loads import Arrivals

_NS = 1_000_000_000


def schedule_ns(
    rate_hz: float, duration_s: float, *, arrivals: Arrivals, seed: int
) -> NDArray[np.int64]:
    """Intended send times from the begin, ascending, all within the duration.

    The same arguments give the same schedule. ``poisson``: the number of arrivals is random
    too; ``constant``: the first is half a gap after the begin.
    """
    if arrivals == "constant":
        count = round(rate_hz * duration_s)
        times_s = (np.arange(count) + 0.5) / rate_hz
    else:
        random = np.random.default_rng(seed)
        # Given their number, the arrivals of a Poisson process are uniform and independent.
        count = int(random.poisson(rate_hz * duration_s))
        times_s = np.sort(random.uniform(0.0, duration_s, count))
    times_ns = (times_s * _NS).astype(np.int64)
    return times_ns[times_ns < duration_s * _NS]
