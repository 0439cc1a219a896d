"""What stands on a page at one time, as frozen values. Pure.

The page may be written to meanwhile, or hold anything at all: a row whose description changes
is read again, one whose texts cannot be is left out, and numbers are taken as they are.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from device_agent.statistics_page import layout
from device_agent.statistics_page.histogram import Histogram
from edge_sdk.base.errors import FormatError

_READS_MAX = 8
_WORD_MAX = (1 << 64) - 1


class State(Enum):
    """Of a model's artifact in the inference process."""

    RETIRED = layout.RETIRED  # not loaded any more: its counters stand still
    LOADED = layout.LOADED
    SERVING = layout.SERVING


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The tensor pool. In the order of the page."""

    budget_bytes: int = 0
    held_bytes: int = 0
    used_bytes: int = 0
    used_high_water_bytes: int = 0
    slabs_used: int = 0
    acquired: int = 0
    reused: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """Of a model's response cache, since inference started. In the order of the page."""

    memory_hits: int = 0
    file_hits: int = 0
    shared: int = 0
    misses: int = 0
    entries: int = 0
    memory_bytes: int = 0
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of the engine: how many, and nanoseconds of all together."""

    count: int = 0
    input_ns: int = 0
    compute_ns: int = 0
    output_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """One artifact of a model. Counts are since its row was claimed.

    ``answered``: requests that the engine ran for; ``runs``: of the engine, by how many
    requests were in them; ``failed``: requests that were not answered, of these ``errors`` by
    the engine and ``refused`` for lack of a turn; ``hits``: answered without a run of their own.
    """

    model: str
    version: str
    variant: str
    engine: str
    artifact: str
    state: State
    loads: int = 0
    memory_bytes: int = 0
    load_ns: int = 0
    loaded_ms: int = 0
    last_ns: int = 0
    answered: int = 0
    failed: int = 0
    failed_ns: int = 0
    errors: int = 0
    refused: int = 0
    hits: int = 0
    hits_ns: int = 0
    misses: int = 0
    misses_ns: int = 0
    in_flight: int = 0
    waiting: int = 0
    running: int = 0
    cache: CacheCounts = CacheCounts()
    runs: Mapping[int, Runs] = field(default_factory=dict)
    phases: Mapping[str, Histogram] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        return sum(runs.count for runs in self.runs.values())

    @property
    def cached(self) -> bool:
        """Whether a response cache is at work."""
        return self.cache != CacheCounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSnapshot:
    """The inference process as it stands on the page. ``starts`` 0: it never ran."""

    starts: int = 0
    pid: int = 0
    started_ms: int = 0
    beat_ms: int = 0
    refused: int = 0
    memory_bytes: int = 0
    waiting: tuple[int, ...] = (0, 0, 0)  # by priority: high, medium, low
    running: int = 0
    pool: PoolUse = PoolUse()
    models: tuple[ModelUse, ...] = ()


def read_page(page: memoryview | bytes) -> PageSnapshot:
    """A page's words (or bytes) as values. Raises: FormatError for what is no page."""
    words = memoryview(page)
    words = words if words.format == "Q" else words.cast("B").cast("Q")
    if words.nbytes != layout.PAGE_BYTES:
        raise FormatError(f"a statistics page has {layout.PAGE_BYTES} bytes, not {words.nbytes}")
    head = words[: layout.HEADER_WORDS].tolist()
    if head[layout.MARK_AT] == 0:
        return PageSnapshot()  # inference has not come so far
    if head[layout.MARK_AT] != layout.MARK:
        raise FormatError("a statistics page of another release")
    rows = (read_row(words, number) for number in range(min(head[layout.ROWS_USED], layout.ROWS)))
    return PageSnapshot(
        starts=head[layout.STARTS],
        pid=head[layout.PID],
        started_ms=head[layout.STARTED_MS],
        beat_ms=head[layout.BEAT_MS],
        refused=head[layout.ROWS_REFUSED],
        memory_bytes=head[layout.MEMORY_BYTES],
        waiting=tuple(head[layout.PROCESS_WAITING : layout.PROCESS_WAITING + layout.PRIORITIES]),
        running=head[layout.PROCESS_RUNNING],
        pool=PoolUse(*head[layout.POOL : layout.POOL + layout.POOL_WORDS]),
        models=tuple(row for row in rows if row is not None),
    )


def read_row(words: memoryview, number: int) -> ModelUse | None:
    """None: the row is free, changes all the time, or is no row."""
    begin = layout.row_begin(number)
    for _ in range(_READS_MAX):
        row = words[begin : begin + layout.ROW_WORDS].tolist()
        if row[layout.SEQUENCE] % 2 == 0 and row[layout.SEQUENCE] == words[begin]:
            return _model(row)
    return None


def _model(row: list[int]) -> ModelUse | None:
    try:
        return ModelUse(
            state=State(row[layout.STATE]),
            model=_text(row, layout.MODEL),
            version=_text(row, layout.VERSION),
            variant=_text(row, layout.VARIANT),
            engine=_text(row, layout.ENGINE),
            artifact=_bytes(row, layout.ARTIFACT).hex(),
            **_counts(row),
        )
    except ValueError:  # no such state, or no text
        return None


def _counts(row: list[int]) -> dict[str, Any]:
    return {
        "loads": row[layout.LOADS],
        "memory_bytes": row[layout.ROW_MEMORY_BYTES],
        "load_ns": row[layout.LOAD_NS],
        "loaded_ms": row[layout.LOADED_MS],
        "last_ns": row[layout.LAST_NS],
        "answered": (row[layout.ALONE] + row[layout.BATCHED]) & _WORD_MAX,
        "failed": row[layout.FAIL],
        "failed_ns": row[layout.FAIL_NS],
        "errors": row[layout.ERRORS],
        "refused": row[layout.REFUSED],
        "hits": row[layout.HIT],
        "hits_ns": row[layout.HIT_NS],
        "misses": row[layout.MISS],
        "misses_ns": row[layout.MISS_NS],
        "in_flight": row[layout.IN_FLIGHT],
        "waiting": row[layout.WAITING],
        "running": row[layout.RUNNING],
        "cache": CacheCounts(*row[layout.CACHE : layout.CACHE + layout.CACHE_WORDS]),
        "runs": _runs(row),
        "phases": _phases(row),
    }


def _runs(row: list[int]) -> dict[int, Runs]:
    found = {}
    if row[layout.ALONE]:
        found[1] = Runs(row[layout.ALONE], *row[layout.ALONE + 2 : layout.ALONE + 5])
    for size in range(2, layout.BATCH_SIZES + 1):
        begin = layout.batch_begin(size)
        count, input_ns, compute_ns, output_ns = row[begin : begin + layout.BATCH_WORDS]
        if count:
            found[size] = Runs(count, input_ns, compute_ns, output_ns)
    return found


def _phases(row: list[int]) -> dict[str, Histogram]:
    sums = [row[layout.ALONE + one] + row[layout.BATCHED + one] for one in range(1, 5)]
    sums.append(sum(sums) + row[layout.HIT_NS])
    sums = [one & _WORD_MAX for one in sums]  # whatever stands there, they stay words
    found = {}
    for number, name in enumerate(layout.PHASES):
        begin = layout.histogram_begin(number)
        counts = tuple(row[begin : begin + layout.BUCKETS])
        found[name] = Histogram(counts=counts, sum_ns=sums[number])
    return found


def _bytes(row: list[int], place: tuple[int, int]) -> bytes:
    begin, size_bytes = place
    words = row[begin : begin + size_bytes // layout.WORD_BYTES]
    return array("Q", words).tobytes()


def _text(row: list[int], place: tuple[int, int]) -> str:
    """Raises: ValueError (what is there is no UTF-8)."""
    return _bytes(row, place).rstrip(b"\0").decode()
