"""Which keys are refused, looked at on each call and while streams are open."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from distributor.errors import UnauthenticatedError
from distributor.operators import Grant

_OPERATOR = "operator "  # before a name; no digest of a key looks like it


class OpenStream:
    """One stream under way, which may have to end before its time. ``grants``: what its caller
    was let in with."""

    def __init__(self, task: asyncio.Task[object], grants: Iterable[Grant] = ()) -> None:
        self._task = task
        self.grants = tuple(grants)
        self.waiting = False  # for what comes next; else for a reader
        self.ended = ""

    def end(self, reason: str) -> None:
        """While gRPC writes, its task must not be cancelled: the call would never finish."""
        if not self.ended:
            self.ended = reason
            if self.waiting:
                self._task.cancel()

    def check(self) -> None:
        """Raises: UnauthenticatedError once it has to end."""
        if self.ended:
            raise UnauthenticatedError(self.ended)

    def caught(self) -> UnauthenticatedError | None:
        """What a cancellation of ours means; None: somebody else cancelled the call."""
        if not self.ended:
            return None
        self._task.uncancel()
        return UnauthenticatedError(self.ended)


class Standing:
    """Of keys, by the SHA-256 of their public half. Lives on the server's loop."""

    def __init__(self, refused: Mapping[str, str] | None = None) -> None:
        self._refused = dict(refused or {})
        self._open: defaultdict[str, set[OpenStream]] = defaultdict(set)
        self._ended: dict[str, tuple[int, str]] = {}  # by operator: the change, and why

        self.changes = 0  # so far, of what operators may do

    def check(self, key: str) -> None:
        """Raises: UnauthenticatedError."""
        reason = self._refused.get(key)
        if reason is not None:
            raise UnauthenticatedError(f"this certificate is refused: {reason}")

    def check_since(self, changes: int, key: str, operator: str) -> None:
        """Whether a caller whose rights were read meanwhile is still who they were.

        ``changes``: as many as there were before that. ``key``, ``operator``: "" for none.
        Raises: UnauthenticatedError.
        """
        if key:
            self.check(key)
        change, reason = self._ended.get(operator, (0, ""))
        if change > changes:
            raise UnauthenticatedError(reason)

    @property
    def known(self) -> int:
        """How many keys are refused."""
        return len(self._refused)

    def knows(self, key: str) -> bool:
        return key in self._refused

    def of_operators(self) -> dict[str, tuple[OpenStream, ...]]:
        """The streams that are open, by operator."""
        return {
            one.removeprefix(_OPERATOR): tuple(streams)
            for one, streams in self._open.items()
            if one.startswith(_OPERATOR)
        }

    def refuse(self, key: str, reason: str) -> None:
        """From now on, and in every stream that is open."""
        self._refused[key] = reason
        for stream in tuple(self._open.get(key, ())):
            stream.end(f"this certificate is refused: {reason}")

    def end_of(self, operator: str, reason: str) -> None:
        """Ends the streams that an operator has open or is opening, by whatever certificate or
        token; the next call is judged anew."""
        self.changes += 1
        self._ended[operator] = self.changes, reason
        for stream in tuple(self._open.get(_of(operator), ())):
            stream.end(reason)

    @contextmanager
    def following(
        self,
        key: str,
        left_s: float | None,
        *,
        operator: str = "",
        grants: Iterable[Grant] = (),
        since: int | None = None,
        what: str = "certificate",
    ) -> Iterator[OpenStream]:
        """A stream of the caller with ``key`` ("": a token's), whose certificate is good for
        ``left_s`` more seconds (None: no certificate). ``operator``: whose it is, if one's, who
        was let in with ``grants``. ``since``: how many changes there were before those were read.

        Raises: UnauthenticatedError (what changed meanwhile found no stream that it could end).
        """
        task = asyncio.current_task()
        assert task is not None
        self.check_since(self.changes if since is None else since, key, operator)
        stream = OpenStream(task, grants)
        timer = None
        if left_s is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(left_s, stream.end, f"this {what} has expired")
        names = [one for one in (key, _of(operator) if operator else "") if one]
        for one in names:
            self._open[one].add(stream)
        try:
            yield stream
        finally:
            if timer is not None:
                timer.cancel()
            for one in names:
                self._open[one].discard(stream)
                if not self._open[one]:
                    del self._open[one]


def _of(operator: str) -> str:
    return f"{_OPERATOR}{operator}"
