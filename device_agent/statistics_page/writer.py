"""The inference process's side: rows claimed, header kept, nothing read from outside."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.statistics_page import layout
from device_agent.statistics_page.traces import TraceWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Whose row it is; ``artifact`` as its 32 bytes."""

    model: str
    version: str
    variant: str
    engine: str
    artifact: bytes


class Row:
    """The words of one row. Whoever adds to a counter holds ``lock``; one who sets a gauge that
    nobody else sets needs none."""

    __slots__ = ("holders", "lock", "number", "words")

    def __init__(self, words: memoryview, number: int) -> None:
        self.words = words
        self.number = number
        self.lock = threading.Lock()
        self.holders = 0

    @classmethod
    def private(cls) -> Row:
        """One that is on no page: nobody else reads it."""
        return cls(memoryview(bytearray(layout.ROW_WORDS * layout.WORD_BYTES)).cast("Q"), -1)


class PageWriter:
    """The page of this process. There is one writer at a time: an inference process."""

    def __init__(self, page: memoryview, *, pid: int, trace_every: int | None = None) -> None:
        """Takes a page over from the process before: counters stay, gauges begin anew.

        ``trace_every``: as of ``TraceWriter``; None: nothing is traced.
        """
        self._page = page
        self._lock = threading.Lock()
        self._rows: dict[int, Row] = {}
        head = page[: layout.HEADER_WORDS].tolist()
        if head[layout.MARK_AT] != layout.MARK or not _sound(head[1:]):
            page.cast("B")[:] = bytes(page.nbytes)
        page[layout.ROWS_USED] = min(page[layout.ROWS_USED], layout.ROWS)
        for number in range(page[layout.ROWS_USED]):
            self._take_over(self._row(number))
        self._set(layout.STARTS, page[layout.STARTS] + 1)
        self._set(layout.PID, pid)
        self._set(layout.STARTED_MS, time.time_ns() // 1_000_000)
        page[layout.ROWS_REFUSED] = 0
        self.beat(memory_bytes=0, pool=[0] * layout.POOL_WORDS)
        page[layout.MARK_AT] = layout.MARK
        self.tracer = None if trace_every is None else TraceWriter(page, every=trace_every)

    def claim(self, described: Described) -> Row | None:
        """The artifact's row, its own from before where there is one; None: all are in use."""
        with self._lock:
            number = self._choose(described)
            if number is None:
                self._set(layout.ROWS_REFUSED, self._page[layout.ROWS_REFUSED] + 1)
                return None
            row = self._row(number)
            if _artifact(row.words) != _key(described):
                self._describe(row.words, described)
            row.holders += 1
            row.words[layout.LOADS] += 1
            row.words[layout.LOADED_MS] = time.time_ns() // 1_000_000
            if row.words[layout.STATE] == layout.RETIRED:
                row.words[layout.STATE] = layout.LOADED
            self._set(layout.ROWS_USED, max(self._page[layout.ROWS_USED], number + 1))
            return row

    def let_go(self, row: Row) -> None:
        """The artifact is not loaded any more; its counters stay until the row is needed."""
        with self._lock:
            row.holders -= 1
            if not row.holders:
                _clear_gauges(row.words)
                row.words[layout.STATE] = layout.RETIRED

    def beat(
        self,
        *,
        memory_bytes: int,
        pool: Sequence[int],
        waiting: Sequence[int] = (0, 0, 0),
        running: int = 0,
    ) -> None:
        """Sets the gauges of the whole process."""
        self._set(layout.BEAT_MS, time.time_ns() // 1_000_000)
        self._set(layout.MEMORY_BYTES, memory_bytes)
        self._page[layout.POOL : layout.POOL + layout.POOL_WORDS] = array("Q", pool)
        end = layout.PROCESS_WAITING + layout.PRIORITIES
        self._page[layout.PROCESS_WAITING : end] = array("Q", waiting)
        self._set(layout.PROCESS_RUNNING, running)

    def _set(self, at: int, value: int) -> None:
        self._page[at] = value

    def _row(self, number: int) -> Row:
        if number not in self._rows:
            begin = layout.row_begin(number)
            self._rows[number] = Row(self._page[begin : begin + layout.ROW_WORDS], number)
        return self._rows[number]

    def _take_over(self, row: Row) -> None:
        words = row.words
        numbers = words[: layout.MODEL[0]].tolist() + words[layout.DESCRIBED_END :].tolist()
        if words[layout.SEQUENCE] % 2 or not _sound(numbers):
            # The process before died while it described the row, or had gone mad.
            words[layout.STATE :] = array("Q", [0] * (layout.ROW_WORDS - 1))
            words[layout.SEQUENCE] = 0
        elif words[layout.STATE] != layout.FREE:
            words[layout.STATE] = layout.RETIRED
        _clear_gauges(words)

    def _choose(self, described: Described) -> int | None:
        used = self._page[layout.ROWS_USED]
        rows = [self._row(number) for number in range(used)]
        for number, row in enumerate(rows):
            if row.words[layout.STATE] != layout.FREE and _artifact(row.words) == _key(described):
                return number
        if used < layout.ROWS:
            return int(used)
        # The longest unloaded goes first; a free one (of a broken description) was never loaded.
        idle = [number for number, row in enumerate(rows) if not row.holders]
        return min(idle, key=lambda number: rows[number].words[layout.LOADED_MS], default=None)

    def _describe(self, words: memoryview, described: Described) -> None:
        words[layout.SEQUENCE] += 1
        words[layout.STATE : layout.ROW_WORDS] = array("Q", [0] * (layout.ROW_WORDS - 1))
        for (begin, size_bytes), text in (
            (layout.MODEL, described.model.encode()),
            (layout.VERSION, described.version.encode()),
            (layout.VARIANT, described.variant.encode()),
            (layout.ENGINE, described.engine.encode()),
            (layout.ARTIFACT, described.artifact),
        ):
            padded = array("Q", text[:size_bytes].ljust(size_bytes, b"\0"))
            words[begin : begin + len(padded)] = padded
        words[layout.STATE] = layout.LOADED
        words[layout.SEQUENCE] += 1


def _sound(numbers: list[int]) -> bool:
    """Whether these can have been counted: otherwise one more might not fit its word."""
    return max(numbers) < layout.COUNT_MAX


def _clear_gauges(words: memoryview) -> None:
    words[layout.GAUGES : layout.BATCHES] = array("Q", [0] * (layout.BATCHES - layout.GAUGES))


def _artifact(words: memoryview) -> tuple[bytes, bytes]:
    return _raw(words, layout.MODEL), _raw(words, layout.ARTIFACT)


def _key(described: Described) -> tuple[bytes, bytes]:
    return described.model.encode().ljust(layout.MODEL[1], b"\0"), described.artifact


def _raw(words: memoryview, place: tuple[int, int]) -> bytes:
    begin, size_bytes = place
    return words[begin : begin + size_bytes // layout.WORD_BYTES].tobytes()
