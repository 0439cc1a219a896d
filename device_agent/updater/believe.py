"""Hears assignments and takes up those that the gate lets through.

The gate asks the distributor for metadata, so it works on another thread. What it refuses is
told as an event, once for each reason, and is tried again: metadata that are expired today, or
not there yet, may be good tomorrow.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from device_agent.trust import AssignmentKeeper
from device_agent.updater.context import Context
from device_agent.updater.deliver import typed
from device_agent.updater.loop import Timer
from edge_sdk.base import EdgeError, ResourceError
from edge_sdk.rpc.backoff import Backoff

if TYPE_CHECKING:
    from device_agent.trust.gate import Judged

Done = Callable[[EdgeError | None], None]
_JITTER = 0.2
_WITHHELD = 2  # failures in a row that may be an accident
# Whoever sends nonsense without end shall not fill the journal with it.
_TOLD_MAX, _TOLD_WITHIN_S = 10, 600.0


class Believer:
    """Lives on the loop's thread. ``taken`` is called for each assignment that was taken up,
    ``report`` when there is an event to send.

    ``refusal``: why nothing new is taken up; empty while all is well.
    """

    def __init__(
        self,
        context: Context,
        keeper: AssignmentKeeper,
        *,
        taken: Callable[[], None],
        report: Callable[[], None],
    ) -> None:
        self.refusal = ""
        self._context = context
        self._keeper = keeper
        self._gate = context.gate
        self._taken = taken
        self._report = report
        config = context.config
        self._backoff = Backoff(base_s=config.retry_base_s, cap_s=config.retry_cap_s)
        self._failures = 0
        self._busy = False
        self._newest = b""  # the envelope taken up last: two check-ins may bring the same one
        self._next: tuple[bytes, Done] | None = None
        self._again: Timer | None = None
        self._told: tuple[str, str, bytes] | None = None
        self._told_at_s: deque[float] = deque(maxlen=_TOLD_MAX)

    def hear(self, document: bytes, done: Done) -> None:
        """``done`` is told how it ended, once it was taken up or refused."""
        if self._next is not None:
            self._next[1](None)  # a newer one came before it had its turn
        self._next = (document, done)
        self._judge_next()

    def look_regularly(self) -> None:
        """Also without a new assignment: keys change, and silence should be noticed."""
        if self._gate is None:
            return
        spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not all at once
        self._context.loop.later(self._context.config.metadata_check_s * spread, self._look)

    def _look(self) -> None:
        gate = self._gate
        assert gate is not None
        self.look_regularly()
        if not self._busy:
            self._context.loop.background(gate.look, self._looked)

    def _looked(self, _: None, error: Exception | None) -> None:
        if error is not None:
            self._refused(typed(error), b"")
        elif self._again is None:
            self.refusal, self._told = "", None

    def _judge_next(self) -> None:
        gate, keeper = self._gate, self._keeper
        if self._busy or self._next is None or gate is None:
            return
        (document, done), self._next = self._next, None
        if document == self._newest:
            done(None)
            return
        self._busy = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        kept = keeper.kept
        self._context.loop.background(
            lambda: gate.judge(
                document, device=keeper.device, kept=kept, floors=keeper.floors_or_none
            ),
            lambda judged, error: self._judged(document, done, judged, error),
        )

    def _judged(
        self, document: bytes, done: Done, judged: Judged | None, error: Exception | None
    ) -> None:
        self._busy = False
        try:
            if judged is None:
                raise error or EdgeError("the gate said nothing")
            self._keeper.keep(judged.document, judged.assignment, judged.floors)
        except Exception as wrong:  # noqa: BLE001 - whatever it was, the assignment is not taken
            refused = typed(wrong)
            self._refused(refused, document)
            self._try_again(document)
            done(refused)
        else:
            self._failures = 0
            self._newest = document
            self._took_up(done)
        self._judge_next()

    def _took_up(self, done: Done) -> None:
        self.refusal, self._told = "", None
        self._taken()
        done(None)

    def _try_again(self, document: bytes) -> None:
        self._failures += 1
        delay_s = self._backoff.delay_s(self._failures, random.random())  # noqa: S311 - jitter
        again = self._context.loop.later(delay_s, lambda: self._hear_again(document))
        self._again = again

    def _hear_again(self, document: bytes) -> None:
        self._again = None
        if self._next is None and not self._busy:
            self.hear(document, lambda error: None)

    def _refused(self, error: EdgeError, document: bytes) -> None:
        """Told once, where a check said no, and where what would prove an assignment is withheld
        again and again; a distributor that is away for once is no news."""
        self.refusal = f"{error.reason}: {error.message}"
        away = "check" not in error.facts and error.grpc_status == "UNAVAILABLE"
        if away and self._failures < _WITHHELD:
            return
        what = (error.reason, str(error.facts.get("check", "")), document)
        if what == self._told or self._told_enough():
            return
        with contextlib.suppress(ResourceError):  # unsaid on a full disk, until there is room
            self._context.log.refuse(error)
            self._told = what
            self._report()

    def _told_enough(self) -> bool:
        now_s, told = time.monotonic(), self._told_at_s
        if len(told) == _TOLD_MAX and now_s - told[0] < _TOLD_WITHIN_S:
            return True
        told.append(now_s)
        return False
