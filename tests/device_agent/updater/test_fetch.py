"""Transfers: spans, short streams, back-pressure, stopping."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from device_agent.fleet_link import FleetLink
from device_agent.updater.fetch import Cursor, Span, Transfer
from device_agent.updater.loop import Loop
from edge_sdk.base import Digest, EdgeError, ProofError, UnavailableError

DATA = bytes(range(256)) * 40


class Link:
    """Answers fetches from memory, in frames of 64 bytes."""

    def __init__(self, *, stop_at: int | None = None, extra: bytes = b"") -> None:
        self.stop_at, self.extra = stop_at, extra
        self.given = 0
        self.fail: Exception | None = None

    def fetch(self, digest: Digest, *, offset: int, length: int) -> Iterator[bytes]:
        if self.fail is not None:
            raise self.fail
        data = DATA[offset : offset + length] + self.extra
        for start in range(0, len(data), 64):
            if self.stop_at is not None and start >= self.stop_at:
                return
            self.given += 1
            yield data[start : start + 64]


def run(link: Link, spans: list[Span], *, stop_after: int | None = None) -> tuple[bytes, list[Any]]:
    """What arrived, and how it ended."""
    loop = Loop()
    arrived, ends = bytearray(), []

    def on_data(transfer: Transfer, data: bytes) -> None:
        arrived.extend(data)
        if stop_after is not None and len(arrived) >= stop_after:
            transfer.stop()
            loop.stop()

    def on_end(transfer: Transfer, error: EdgeError | None) -> None:
        ends.append(error)
        loop.stop()

    Transfer(loop, cast(FleetLink, link), Digest.of(b"d"), spans, on_data=on_data, on_end=on_end)
    loop.run()
    return bytes(arrived), ends


def test_spans_arrive_in_their_order() -> None:
    """Each span's bytes, one after the other."""
    spans = [Span(offset=1000, length=100), Span(offset=10, length=3000)]
    assert run(Link(), spans) == (DATA[1000:1100] + DATA[10:3010], [None])


def test_c7_a_stream_that_ends_early_is_a_cut() -> None:
    """Length is compared: incomplete is never taken for complete."""
    data, ends = run(Link(stop_at=640), [Span(offset=0, length=5000)])
    assert data == DATA[:640]
    assert isinstance(ends[0], UnavailableError)


def test_more_than_was_asked_for_is_refused() -> None:
    """Nothing beyond the span reaches the decoder."""
    data, ends = run(Link(extra=b"x" * 64), [Span(offset=0, length=640)])
    assert data == DATA[:640]
    assert isinstance(ends[0], UnavailableError)


def test_errors_are_handed_over() -> None:
    """Typed ones as they are, others as UnavailableError: no thread ends in silence."""
    link = Link()
    link.fail = ProofError("p")
    assert isinstance(run(link, [Span(offset=0, length=1)])[1][0], ProofError)
    link.fail = RuntimeError("r")
    assert isinstance(run(link, [Span(offset=0, length=1)])[1][0], UnavailableError)


def test_stopped_means_nothing_more() -> None:
    """Neither data nor an end after ``stop``."""
    data, ends = run(Link(), [Span(offset=0, length=10_000)], stop_after=128)
    assert len(data) == 128
    assert ends == []


def test_a_slow_reader_holds_the_link_back() -> None:
    """No more frames are taken from the link than may lie in memory."""
    loop, link = Loop(), Link()
    began = threading.Event()
    loop.put(lambda: None)
    Transfer(
        loop,
        cast(FleetLink, link),
        Digest.of(b"d"),
        [Span(offset=0, length=10_000)],
        on_data=lambda *_: began.set(),
        on_end=lambda *_: loop.stop(),
    )
    deadline = threading.Event()
    deadline.wait(0.2)  # the loop does not run: the frames pile up to the limit
    assert link.given <= 33
    loop.run()
    assert link.given == -(-10_000 // 64)


@given(
    lengths=st.lists(st.integers(0, 50), max_size=5), steps=st.lists(st.integers(1, 9), max_size=99)
)
def test_the_cursor_covers_every_byte_once(lengths: list[int], steps: list[int]) -> None:
    """Whatever arrives in whatever pieces, what is left and what came make up the spans."""
    spans = [Span(offset=100 * number, length=one) for number, one in enumerate(lengths)]
    cursor = Cursor(spans)
    wanted = [100 * n + i for n, one in enumerate(lengths) for i in range(one)]
    for step in steps:
        if cursor.is_done:
            break
        first = cursor.left()[0]
        count = min(step, first.length)
        assert wanted[:count] == list(range(first.offset, first.offset + count))
        cursor.take(count)
        wanted = wanted[count:]
    assert wanted == [s.offset + i for s in cursor.left() for i in range(s.length)]


def test_an_empty_frame_is_refused() -> None:
    """A peer that sends nothing, again and again, neither hangs nor crashes the updater."""

    class Idle(Link):
        def fetch(self, digest: Digest, *, offset: int, length: int) -> Iterator[bytes]:
            yield from super().fetch(digest, offset=offset, length=length)
            yield b""

    data, ends = run(Idle(), [Span(offset=0, length=640)])
    assert data == DATA[:640]
    assert isinstance(ends[0], UnavailableError)
