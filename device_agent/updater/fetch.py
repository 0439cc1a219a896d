"""Brings the bytes of a delta to the loop's thread, with back-pressure.

A transfer ends well, or is cut: the caller then asks for the bytes that are still missing,
after a back-off. A stream that ends early is a cut, not damage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_agent.fleet_link import FleetLink
from device_agent.updater.loop import Loop
from edge_sdk.base import Digest, EdgeError, UnavailableError

_FRAMES_WAITING = 32  # times 64 KiB: what may lie in memory before the link is held back


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes of a delta that are needed."""

    offset: int
    length: int


class Cursor:
    """How far a list of spans has come."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = [span for span in spans if span.length]

    def take(self, count: int) -> None:
        """``count`` bytes arrived, all within the first span that is left."""
        first = self._spans[0]
        left = Span(offset=first.offset + count, length=first.length - count)
        self._spans[:1] = [left] if left.length else []

    def left(self) -> tuple[Span, ...]:
        return tuple(self._spans)

    @property
    def is_done(self) -> bool:
        return not self._spans


class Transfer:
    """One thread that fetches spans in order and hands over each frame."""

    def __init__(
        self,
        loop: Loop,
        link: FleetLink,
        delta: Digest,
        spans: Sequence[Span],
        *,
        on_data: Callable[[Transfer, bytes], None],
        on_end: Callable[[Transfer, EdgeError | None], None],
    ) -> None:
        self._loop = loop
        self._link = link
        self._delta = delta
        self._spans = tuple(spans)
        self._on_data = on_data
        self._on_end = on_end
        self._room = threading.Semaphore(_FRAMES_WAITING)
        self._stopped = False
        threading.Thread(target=self._run, name="updater-fetch", daemon=True).start()

    def stop(self) -> None:
        """On the loop's thread: nothing more of this transfer is handed over."""
        self._stopped = True
        self._room.release()

    def _run(self) -> None:
        failed: EdgeError | None = None
        try:
            for span in self._spans:
                self._fetch(span)
        except EdgeError as error:
            failed = error
        except Exception as error:  # noqa: BLE001 - a thread must not end in silence
            failed = UnavailableError(f"the transfer failed: {type(error).__name__}: {error}")
        self._loop.put(lambda: self._ended(failed))

    def _ended(self, error: EdgeError | None) -> None:
        if not self._stopped:
            self._on_end(self, error)

    def _fetch(self, span: Span) -> None:
        missing = span.length
        for data in self._link.fetch(self._delta, offset=span.offset, length=span.length):
            if self._stopped:
                return
            if not data or len(data) > missing:  # nothing, for ever, is no progress either
                raise UnavailableError("the distributor sent other bytes than were asked for")
            missing -= len(data)
            self._room.acquire()
            self._loop.put(self._deliver(data))
        if missing:
            raise UnavailableError(f"the stream ended {missing} bytes early")

    def _deliver(self, data: bytes) -> Callable[[], None]:
        def deliver() -> None:
            self._room.release()
            if not self._stopped:
                self._on_data(self, data)

        return deliver
