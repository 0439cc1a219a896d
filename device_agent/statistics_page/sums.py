"""Adding a request to the counters of its row: compiled where there was a compiler (csrc/)."""

from __future__ import annotations

import time
from collections.abc import Callable

from device_agent.statistics_page import layout
from device_agent.statistics_page.histogram import TIME_NS_MAX, bucket_of

# Where the buckets of a phase begin (histogram.bucket_of).
_QUEUE, _INPUT, _COMPUTE, _OUTPUT, _WHOLE = (layout.histogram_begin(n) for n in range(5))
_SMALL_NS = 1 << 14
_SMALL = bytes(bucket_of(ns) for ns in range(_SMALL_NS))
_TIME_BITS = TIME_NS_MAX.bit_length()
_LAST_NS = layout.LAST_NS
_now_ns = time.time_ns

Ran = Callable[[memoryview, int, int, int, int, int], None]


def within(time_ns: int) -> int:
    """The nearest time that has a bucket."""
    return min(max(time_ns, 0), TIME_NS_MAX)


def plain_ran(  # noqa: PLR0917 - as the compiled one, for which names would cost
    words: memoryview, at: int, queue_ns: int, input_ns: int, infer_ns: int, output_ns: int, /
) -> None:
    """A request with these times; ``at``: ALONE or BATCHED. Who calls holds the row's lock."""
    if (queue_ns | input_ns | infer_ns | output_ns) >> _TIME_BITS:  # a negative one too
        queue_ns, input_ns = within(queue_ns), within(input_ns)
        infer_ns, output_ns = within(infer_ns), within(output_ns)
    words[at] += 1
    words[at + 1] += queue_ns
    words[at + 2] += input_ns
    words[at + 3] += infer_ns
    words[at + 4] += output_ns
    whole_ns = queue_ns + input_ns + infer_ns + output_ns
    if whole_ns < _SMALL_NS:  # where each fraction of a microsecond is seen
        words[_QUEUE + _SMALL[queue_ns]] += 1
        words[_INPUT + _SMALL[input_ns]] += 1
        words[_COMPUTE + _SMALL[infer_ns]] += 1
        words[_OUTPUT + _SMALL[output_ns]] += 1
        words[_WHOLE + _SMALL[whole_ns]] += 1
    else:
        words[_QUEUE + bucket_of(queue_ns)] += 1
        words[_INPUT + bucket_of(input_ns)] += 1
        words[_COMPUTE + bucket_of(infer_ns)] += 1
        words[_OUTPUT + bucket_of(output_ns)] += 1
        words[_WHOLE + bucket_of(whole_ns)] += 1
    words[_LAST_NS] = _now_ns()


def _chosen() -> Ran:
    try:
        from device_agent.statistics_page._sums import ran as compiled
    except ImportError:
        return plain_ran
    return compiled


ran: Ran = _chosen()
