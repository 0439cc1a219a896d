"""A stream that says nothing for too long is ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Stream(Protocol[T_co]):
    """A server stream under way."""

    def __iter__(self) -> Iterator[T_co]: ...

    def cancel(self) -> object: ...


def unless_stalled(call: Stream[T_co], stall_s: float) -> Iterator[T_co]:
    """The messages of ``call``, which is cancelled once the next is waited for too long.

    Time that the consumer takes for itself does not count: it may hold the peer back.
    """
    ended = threading.Event()
    waiting_since: list[float] = []

    def guard() -> None:
        while not ended.wait(stall_s / 4):
            since_s = next(iter(waiting_since), None)  # the list may be emptied at any moment
            if since_s is not None and time.monotonic() - since_s > stall_s:
                call.cancel()
                return

    threading.Thread(target=guard, name="fetch-guard", daemon=True).start()
    messages = iter(call)
    try:
        while True:
            waiting_since[:] = [time.monotonic()]
            try:
                message = next(messages)
            except StopIteration:
                return
            waiting_since.clear()
            yield message
    finally:
        ended.set()
