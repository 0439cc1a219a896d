"""What was read and is not asked yet: a bounded row from one thread to another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar, get_args

from edge_sdk.base import UsageError

WhenFull = Literal["block", "drop-oldest", "drop-newest"]
T = TypeVar("T")


class Waiting(Generic[T]):
    """In the order of putting. What is dropped is given to ``dropped``, once."""

    def __init__(self, size: int, when_full: WhenFull, dropped: Callable[[T], None]) -> None:
        """Raises: UsageError."""
        if size < 1:
            raise UsageError(f"at least one must be able to wait, not {size}")
        if when_full not in get_args(WhenFull):
            raise UsageError(f"when_full {when_full!r} is none of {', '.join(get_args(WhenFull))}")
        self._size = size
        self._when_full = when_full
        self._give_dropped = dropped
        self._row: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False

    def has_room(self) -> bool:
        """Whether the next one may be put; waits for room where that is how it is wanted.

        Only who puts asks. False: it would be dropped, or nobody takes any more.
        """
        with self._changed:
            if self._when_full == "block":
                self._changed.wait_for(lambda: self._closed or len(self._row) < self._size)
            full = self._when_full == "drop-newest" and len(self._row) >= self._size
            return not (self._closed or full)

    def put(self, one: T) -> None:
        """Behind the others, after ``has_room``; the oldest goes where there are too many."""
        dropped: list[T] = []
        with self._changed:
            if self._closed:
                dropped.append(one)
            else:
                self._row.append(one)
                if len(self._row) > self._size:
                    dropped.append(self._row.popleft())
                self._changed.notify_all()
        for gone in dropped:
            self._give_dropped(gone)

    def take(self) -> T | None:
        """The first; waits for it. None: there is none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._row or self._finished or self._closed)
            if not self._row:
                return None
            one = self._row.popleft()
            self._changed.notify_all()
            return one

    def finish(self) -> None:
        """Nothing more is put; what waits can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Ends both sides' waiting; what waits is dropped."""
        with self._changed:
            self._closed = True
            dropped = list(self._row)
            self._row.clear()
            self._changed.notify_all()
        for gone in dropped:
            self._give_dropped(gone)
