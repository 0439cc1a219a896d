"""Connections of an app to the agent on this machine, taken in turns.

Where there is no lane, or it cannot carry a request, the caller is told so and uses gRPC.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sdk.base import EdgeError
from edge_sdk.client.lane import GoneBeforeError, Lane, NotOnLaneError
from edge_sdk.client.lane_request import LaneInput, What
from edge_sdk.client.result import Result, SequenceStep

_AGAIN_S = 1.0  # how long a lane that could not be used is left alone
_OPEN_S = 10.0
_IDLE_MAX = 16


class Lanes:
    """As many connections as requests at the same time. For any threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Taken and put back at its end, each in one step: no lock is needed, and the one used
        # last has the most in the cores' caches.
        self._idle: list[Lane] = []
        self._closed_until_s = 0.0
        self._closed = False
        _forget_after_fork(self)

    def repeat(
        self,
        what: What,
        inputs: Mapping[str, Any],
        deadline_s: float,
        priority: int,
        sequence: SequenceStep | None,
    ) -> Result | None:
        """A request like one before on the connection that is next; None: ask ``infer``.

        Raises: what the agent answered, UnavailableError.
        """
        try:
            lane = self._idle.pop()
        except IndexError:
            return None
        try:
            result = lane.repeat(what, inputs, deadline_s, priority, sequence)
        except (GoneBeforeError, NotOnLaneError):
            lane.close()
            return None
        except BaseException as error:
            self._after(lane, error)
            raise
        self._idle.append(lane)
        if self._closed:
            self.close()
        return result

    def infer(
        self,
        what: What,
        given: Sequence[LaneInput],
        *,
        deadline_s: float,
        priority: int = 0,
        sequence: SequenceStep | None = None,
    ) -> Result:
        """Raises: NotOnLaneError (use gRPC), and what the agent answered."""
        end_s = time.monotonic() + deadline_s
        while True:
            lane, fresh = self._take(end_s)
            try:
                result = lane.infer(what, given, end_s=end_s, priority=priority, sequence=sequence)
            except GoneBeforeError:
                lane.close()
                if fresh:
                    raise NotOnLaneError("the fast lane closed") from None
                continue  # this connection was to an agent that has ended since
            except BaseException as error:
                self._after(lane, error)
                raise
            self._give_back(lane)
            return result

    def open(self) -> Lane:
        """A connection for the caller alone, who closes it. Raises: NotOnLaneError."""
        return self._open(time.monotonic() + _OPEN_S)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(IndexError):  # another thread closes too
            while self._idle:
                self._idle.pop().close()

    def forget(self) -> None:
        """After a fork the parent's connections are the parent's."""
        foreign, self._idle = self._idle, []
        for lane in foreign:
            lane.close()

    def _take(self, end_s: float) -> tuple[Lane, bool]:
        """A connection, and whether it was made now. Raises: NotOnLaneError."""
        try:
            return self._idle.pop(), False
        except IndexError:
            pass
        return self._open(end_s), True

    def _open(self, end_s: float) -> Lane:
        if time.monotonic() < self._closed_until_s:
            raise NotOnLaneError("the fast lane was closed a moment ago")
        try:
            return Lane(self._path, end_s=end_s)
        except NotOnLaneError:
            self._closed_until_s = time.monotonic() + _AGAIN_S
            raise

    def _after(self, lane: Lane, error: BaseException) -> None:
        """The agent's own errors leave a connection as it was. After any other an answer may
        still come, and would be taken for the next one's."""
        if isinstance(error, EdgeError):
            self._give_back(lane)
        else:
            lane.close()

    def _give_back(self, lane: Lane) -> None:
        if not lane.usable or len(self._idle) >= _IDLE_MAX:
            lane.close()
            return
        self._idle.append(lane)
        if self._closed:
            self.close()


# Asking for the process's number with each request would cost a system call.
_ALIVE: weakref.WeakSet[Lanes] = weakref.WeakSet()


def _forget_after_fork(lanes: Lanes) -> None:
    _ALIVE.add(lanes)


def _forget_all() -> None:
    for lanes in list(_ALIVE):
        lanes.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
