"""What data records make: one after the other, or several at once in threads; written in order
in either case."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from edge_sdk.delta.frames import Bytes
from edge_sdk.delta.methods import DecodeContext, Method
from edge_sdk.delta.varint import Cursor

Write = Callable[[int, memoryview], None]
"""Takes an address in the target, counted from its first byte, and what stands there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A data record that was checked. It makes ``length`` bytes from the address ``start`` of
    the target on, of which ``skip`` are there already."""

    method: Method
    body: Cursor
    start: int
    length: int
    skip: int

    def pieces(self, context: DecodeContext) -> Iterator[Bytes]:
        """Raises: DeltaError, WrongSourceError."""
        context.position = self.start
        return self.method.decode(self.body, self.length, self.skip, context)


@dataclass(slots=True)
class _Bench:
    """Memory for one record: its bytes, and what making it takes."""

    context: DecodeContext
    record: bytearray


@dataclass(frozen=True, slots=True)
class _Making:
    order: Order
    bench: _Bench
    pieces: Future[list[Bytes]] | None  # None: made while it is written


class Maker:
    """Makes records with what is in force in ``context``. ``others``: how many records may be
    in the making while the next one is collected; none without threads."""

    def __init__(self, context: DecodeContext, write: Write, *, others: int) -> None:
        self._context = context
        self._write = write
        self._idle = [_Bench(context.copy(), bytearray()) for _ in range(others)]
        self._making: deque[_Making] = deque()
        # One thread less: who feeds has a record to write meanwhile.
        self._pool = ThreadPoolExecutor(max(1, others - 1)) if others else None

    def make(self, order: Order, record: bytearray) -> bytearray:
        """``record`` is the memory of the record's body; answers with memory for the next one.

        Raises: DeltaError, WrongSourceError, what the callbacks raise, all of them in the order
        of the records.
        """
        if self._pool is None:
            self._write_all(order, order.pieces(self._context))
            return record
        bench = self._idle.pop() if self._idle else self._finish_oldest()
        bench.context.tables, bench.context.codes = self._context.tables, self._context.codes
        bench.record, free = record, bench.record
        pieces = None  # of what may be longer than memory, or refer to what is not made yet
        if not order.method.spans_chunks:
            pieces = self._pool.submit(lambda: list(order.pieces(bench.context)))
        self._making.append(_Making(order, bench, pieces))
        return free

    def finish(self) -> None:
        """Writes what is still in the making. Raises: as ``make``."""
        while self._making:
            self._finish_oldest()

    def close(self) -> None:
        """Ends the threads."""
        self._making.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _finish_oldest(self) -> _Bench:
        try:
            made = self._making.popleft()
            pieces = made.order.pieces(made.bench.context)
            self._write_all(made.order, iter(made.pieces.result()) if made.pieces else pieces)
        except BaseException:
            self._making.clear()  # nothing is written behind what failed
            raise
        return made.bench

    def _write_all(self, order: Order, pieces: Iterator[Bytes]) -> None:
        address = order.start + order.skip
        for piece in pieces:
            self._write(address, memoryview(piece))
            address += len(piece)
        if address != order.start + order.length:
            raise order.body.error("does not make the bytes that it claims")
