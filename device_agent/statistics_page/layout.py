"""Where what stands on the page, in words of 8 bytes (unsigned, this machine's order). Pure.

A header, then ``ROWS`` rows. A row belongs to one artifact of one model from its claim until
it is claimed for another; its descriptive part is written between an odd and the next even
``SEQUENCE``. Counters only grow while a row is the same artifact's, over any number of loads
and restarts (``STARTS`` and ``LOADS`` count those). Gauges are set anew at every start.

Supervisor, inference and readers are of one release: the mark changes with the layout.
"""

from __future__ import annotations

WORD_BYTES = 8
COUNT_MAX = 1 << 62  # no number that was counted is as great
MARK = int.from_bytes(b"edgstat1", "little")

HEADER_WORDS = 64
(
    MARK_AT,
    STARTS,  # of the inference process on this page
    PID,
    STARTED_MS,
    BEAT_MS,  # when gauges were set last
    ROWS_USED,  # rows before this one were claimed at some time
    ROWS_REFUSED,  # artifacts that found no row: they are counted nowhere
    MEMORY_BYTES,  # private memory of the process
) = range(8)
POOL = 8  # the words of PoolUse, in the order of its fields
POOL_WORDS = 8
PROCESS_WAITING = 16  # by priority: high, medium, low
PRIORITIES = 3
PROCESS_RUNNING = 19

ROWS = 64
SEQUENCE, STATE, LOADS, ROW_MEMORY_BYTES, LOAD_NS, LOADED_MS = range(6)
FREE, RETIRED, LOADED, SERVING = range(4)
# Texts: first word and bytes; UTF-8, zeros behind.
MODEL = (8, 128)
VERSION = (24, 64)
VARIANT = (32, 64)
ENGINE = (40, 64)
ARTIFACT = (48, 32)  # raw
DESCRIBED_END = 52

COUNTERS = 64
LAST_NS = COUNTERS  # wall clock of the last answer
ERRORS = COUNTERS + 1  # of the engine
FAIL, FAIL_NS = COUNTERS + 2, COUNTERS + 3
HIT, HIT_NS = COUNTERS + 4, COUNTERS + 5
MISS, MISS_NS = COUNTERS + 6, COUNTERS + 7
# Requests that ran alone, and those that ran with others: count and four sums of time each.
ALONE, BATCHED = COUNTERS + 8, COUNTERS + 13
REFUSED = COUNTERS + 18  # of those that failed: no turn in time, or too many waited

GAUGES = 96
IN_FLIGHT = GAUGES
WAITING, RUNNING = GAUGES + 1, GAUGES + 2  # of the model, while the artifact serves it
CACHE = GAUGES + 8  # the words of CacheCounts, in the order of its fields
CACHE_WORDS = 7

# By how many requests ran together, the last for that many or more: runs and three sums of
# time. Those of size 1 are in ALONE.
BATCH_SIZES = 64
BATCHES = 128
BATCH_WORDS = 4

PHASES = ("queue", "input", "compute", "output", "whole")
BUCKETS = 160
HISTOGRAMS = 400
ROW_WORDS = HISTOGRAMS + len(PHASES) * BUCKETS + 16

# A ring of requests that were traced: record ``number`` (from 1 on, over restarts) lies at place
# ``number % TRACES``; its first word is 0 while it is written, then the number.
TRACES = 1024
TRACE_WORDS = 16
TRACES_BEGIN = HEADER_WORDS + ROWS * ROW_WORDS

PAGE_BYTES = (TRACES_BEGIN + TRACES * TRACE_WORDS) * WORD_BYTES


def trace_begin(number: int) -> int:
    """The first word of a traced request."""
    return TRACES_BEGIN + number % TRACES * TRACE_WORDS


def row_begin(number: int) -> int:
    """The first word of a row."""
    return HEADER_WORDS + number * ROW_WORDS


def batch_begin(size: int) -> int:
    """The first word, within a row, of runs of ``size`` (at least 1) requests."""
    return BATCHES + BATCH_WORDS * min(size, BATCH_SIZES)


def histogram_begin(phase: int) -> int:
    """The first bucket of a phase within a row."""
    return HISTOGRAMS + phase * BUCKETS
