"""The page: written by one process, read by others at any time, whatever stands on it."""

from __future__ import annotations

import fcntl
import mmap
import os
import random
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.statistics_page import (
    Described,
    Outcome,
    PageSnapshot,
    PageWriter,
    Row,
    State,
    create_page,
    layout,
    open_page,
    private_page,
    read_page,
    watch_page,
)
from device_agent.statistics_page.snapshot import read_row
from edge_sdk.base import FormatError


@pytest.fixture
def handle() -> Iterator[int]:
    made = create_page()
    yield made
    os.close(made)


def described(name: str = "team/digits", artifact: int = 1) -> Described:
    return Described(
        model=name,
        version=f"{artifact}.0.0",
        variant="fp32",
        engine="onnxruntime",
        artifact=artifact.to_bytes(32, "big"),
    )


def claim(page: PageWriter, name: str = "team/digits", artifact: int = 1) -> Row:
    row = page.claim(described(name, artifact))
    assert row is not None
    return row


def test_an_empty_page_says_that_nothing_ran(handle: int) -> None:
    """Before inference came, a page reads as no process and no models."""
    assert read_page(watch_page(handle)) == PageSnapshot()


def test_what_is_written_is_read(handle: int) -> None:
    """Descriptions, gauges of the process and states arrive as they were given."""
    page = PageWriter(open_page(handle), pid=77)
    row = claim(page)
    row.words[layout.STATE] = layout.SERVING
    page.beat(memory_bytes=5, pool=[10, 20, 30, 40, 50, 60, 70, 80])
    now = read_page(watch_page(handle))
    assert (now.starts, now.pid, now.memory_bytes) == (1, 77, 5)
    assert (now.pool.budget_bytes, now.pool.refused) == (10, 80)
    assert now.beat_ms >= now.started_ms > 1_600_000_000_000
    (model,) = now.models
    assert (model.model, model.version, model.variant) == ("team/digits", "1.0.0", "fp32")
    assert (model.engine, model.state, model.loads) == ("onnxruntime", State.SERVING, 1)
    assert model.artifact == (1).to_bytes(32, "big").hex()


def test_counters_outlive_a_restart_and_gauges_do_not(handle: int) -> None:
    """The next process finds the artifact's counters, and says that it is the second."""
    row = claim(PageWriter(open_page(handle), pid=1))
    row.words[layout.FAIL] += 3
    row.words[layout.IN_FLIGHT] = 2
    second = PageWriter(open_page(handle), pid=2)
    (model,) = read_page(watch_page(handle)).models
    assert (model.failed, model.in_flight, model.state) == (3, 0, State.RETIRED)
    again = claim(second)
    again.words[layout.FAIL] += 1
    now = read_page(watch_page(handle))
    assert (now.starts, now.pid) == (2, 2)
    assert [(one.failed, one.loads, one.state) for one in now.models] == [(4, 2, State.LOADED)]


def test_an_artifact_unloaded_and_loaded_again_keeps_its_row(handle: int) -> None:
    """Two of the same share a row; it is retired when both are gone, and is theirs again."""
    page = PageWriter(open_page(handle), pid=1)
    first, second = claim(page), claim(page)
    assert first is second
    page.let_go(first)
    assert read_page(watch_page(handle)).models[0].state is State.LOADED
    page.let_go(first)
    assert read_page(watch_page(handle)).models[0].state is State.RETIRED
    assert claim(page) is first


def test_the_row_unloaded_longest_makes_room(handle: int) -> None:
    """A full page refuses no artifact while a row is idle, and takes none from a loaded one."""
    page = PageWriter(open_page(handle), pid=1)
    rows = [claim(page, artifact=number) for number in range(layout.ROWS)]
    assert page.claim(described(artifact=1000)) is None
    assert read_page(watch_page(handle)).refused == 1
    rows[5].words[layout.FAIL] = 9
    for number in (7, 5):
        rows[number].words[layout.LOADED_MS] = number
        page.let_go(rows[number])
    assert claim(page, artifact=1001) is rows[5]
    models = {one.version: one for one in read_page(watch_page(handle)).models}
    assert len(models) == layout.ROWS
    assert models["1001.0.0"].failed == 0
    assert models["7.0.0"].state is State.RETIRED


def test_a_death_in_the_middle_of_a_description_is_mended(handle: int) -> None:
    """A row that was being described when its process died is nobody's, and usable."""
    first = PageWriter(open_page(handle), pid=1)
    row = claim(first)
    row.words[layout.SEQUENCE] += 1
    assert read_page(watch_page(handle)).models == ()
    second = PageWriter(open_page(handle), pid=2)
    assert read_page(watch_page(handle)).models == ()
    for number in range(layout.ROWS):
        claim(second, artifact=number)
    assert len(read_page(watch_page(handle)).models) == layout.ROWS


class ReadWhileWritten:
    """A row that another process describes anew while it is read for the first time."""

    def __init__(self, before: list[int], after: list[int]) -> None:
        self._after = memoryview(array("Q", after))
        half = layout.VERSION[0]
        self._torn = memoryview(array("Q", before[:half] + after[half:]))
        self._reads = 0

    def __getitem__(self, at: int | slice) -> Any:
        if not isinstance(at, slice):
            return self._after[at - layout.row_begin(0)]
        self._reads += 1
        return self._torn if self._reads == 1 else self._after


def test_no_name_is_torn() -> None:
    """A row that changes hands while it is read is read again, until it is whole."""
    words = private_page()
    page = PageWriter(words, pid=1)
    row = claim(page, "a/first", 1)
    before = row.words.tolist()
    for number in range(100, 99 + layout.ROWS):
        claim(page, "keep/er", number)
    page.let_go(row)
    assert claim(page, "b/second", 2) is row
    read = read_row(ReadWhileWritten(before, row.words.tolist()), 0)  # type: ignore[arg-type]
    assert read is not None
    assert (read.model, read.version, read.artifact[-1]) == ("b/second", "2.0.0", "2")


def test_a_row_that_is_being_described_is_left_out() -> None:
    """Between an odd and the next even number of its sequence, a row is not shown."""
    words = private_page()
    row = claim(PageWriter(words, pid=1))
    row.words[layout.SEQUENCE] += 1
    assert read_page(words).models == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.integers(0, 64))
def test_any_bytes_are_read(seed: int, states: bool, used: int) -> None:
    """Whatever stands on a page of ours, reading it answers with values and never fails."""
    words = memoryview(bytearray(random.Random(seed).randbytes(layout.PAGE_BYTES))).cast("Q")
    words[layout.MARK_AT] = layout.MARK
    words[layout.ROWS_USED] = used
    for number in range(layout.ROWS if states else 0):
        begin = layout.row_begin(number)
        words[begin + layout.SEQUENCE] = 2
        words[begin + layout.STATE] = 1 + number % 3
        for at, size_bytes in (layout.MODEL, layout.VERSION, layout.VARIANT, layout.ENGINE):
            for word in range(size_bytes // layout.WORD_BYTES):
                words[begin + at + word] &= 0x7F7F7F7F7F7F7F7F
    snapshot = read_page(words)
    if states:
        assert len(snapshot.models) == used
    for model in snapshot.models:
        assert model.answered < 1 << 64
        for phase in model.phases.values():
            phase.percentiles_ns()


@pytest.mark.parametrize("size", [0, 8, layout.PAGE_BYTES - 8, layout.PAGE_BYTES + 8])
def test_another_size_is_no_page(size: int) -> None:
    """Bytes of another size are refused, whatever they begin with."""
    with pytest.raises(FormatError):
        read_page(layout.MARK.to_bytes(8, "little").ljust(size, b"\0")[:size])


def test_another_releases_page_is_refused() -> None:
    """A page with another mark is not guessed at."""
    with pytest.raises(FormatError, match="another release"):
        read_page(b"\1".ljust(layout.PAGE_BYTES, b"\0"))


def test_nobody_can_cut_the_page_off(handle: int) -> None:
    """Its size is sealed, a reader cannot write, and another file is not taken for a page."""
    with pytest.raises(PermissionError):
        os.ftruncate(handle, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    with pytest.raises(TypeError):
        watch_page(handle)[0] = 1
    other = os.memfd_create("other")
    try:
        os.ftruncate(other, mmap.PAGESIZE)
        for map_page in (open_page, watch_page):
            with pytest.raises(FormatError):
                map_page(other)
    finally:
        os.close(other)


def test_a_page_of_a_mad_process_is_not_taken_over(handle: int) -> None:
    """Numbers that nobody counted are dropped with their row, or the header's with everything:
    the next process must be able to add to all it finds."""
    page = open_page(handle)
    first = PageWriter(page, pid=1)
    mad, sane = claim(first, artifact=1), claim(first, artifact=2)
    mad.words[layout.FAIL] = (1 << 64) - 1
    sane.words[layout.FAIL] = 5
    second = PageWriter(page, pid=2, trace_every=1)
    assert [(one.version, one.failed) for one in read_page(page).models] == [("2.0.0", 5)]
    assert claim(second, artifact=1).words[layout.FAIL] == 0
    page[layout.STARTS] = (1 << 64) - 1
    page[layout.trace_begin(layout.TRACES - 1)] = (1 << 64) - 1
    claim(PageWriter(page, pid=3))
    assert read_page(page).starts == 1
    page[layout.trace_begin(layout.TRACES - 1)] = (1 << 64) - 1
    fourth = PageWriter(page, pid=4, trace_every=1)
    assert fourth.tracer is not None
    fourth.tracer.note(0, Outcome.RAN, (1, 1, 1, 1))
    assert page[layout.trace_begin(1)] == 1
