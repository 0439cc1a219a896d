"""How much one caller may ask of a server, for each method. Pure: now is an argument.

Nobody is counted against anybody else: a caller that asks for too much is told when to come
back, and what others get stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sdk.base.errors import BusyError

_SWEEP_MIN = 1024
_AGAIN_S_MIN = 0.001  # less would travel as nothing
_AGAIN_S = 10.0  # a call of the caller's own has to end first; nobody knows when that is


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodLimits:
    """Of one method.

    message_bytes: of one message of the request. metadata_bytes: of all keys and values.
    each, all: calls under way, of one caller and of everybody. stall_s: how long a stream may
    stand still because the caller neither sends nor takes; pace_bytes: what a caller that sends
    must send in that time. cost: tokens that a call takes from the caller's bucket.
    """

    message_bytes: int = 64 << 10
    metadata_bytes: int = 8 << 10
    each: int = 8
    all: int = 1024
    stall_s: float = 60.0
    pace_bytes: int = 1
    cost: float = 1.0


OTHER = MethodLimits(message_bytes=4 << 20, each=16)  # of a method that no table names


def limits_of(table: Mapping[str, MethodLimits], method: str) -> MethodLimits:
    """``method`` as it stands in a call: ``/package.Service/Method``."""
    return table.get(method, OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A token bucket: ``burst`` calls at once, then ``per_s`` each second."""

    burst: float
    per_s: float


@dataclass(slots=True)
class _Caller:
    tokens: float
    at_s: float
    open: dict[str, int] = field(default_factory=dict)


class Admission:
    """Counts the calls of each caller. One thread's, or under the caller's own lock.

    What it remembers of a caller that has no call under way is forgotten once its bucket is
    full again: memory is bounded by who called within the last ``burst / per_s`` seconds.
    """

    def __init__(self, table: Mapping[str, MethodLimits], rate: Rate) -> None:
        self._table = table
        self._rate = rate
        self._callers: dict[str, _Caller] = {}
        self._open: dict[str, int] = {}
        self._sweep_at = _SWEEP_MIN

    @property
    def callers(self) -> int:
        """How many are remembered."""
        return len(self._callers)

    def under_way(self, method: str) -> int:
        return self._open.get(method, 0)

    def enter(self, caller: str, method: str, now_s: float) -> None:
        """One more call of ``caller``; ``leave`` when it is over. Raises: BusyError."""
        limits = limits_of(self._table, method)
        one = self._refilled(caller, now_s)
        if one.tokens < limits.cost:
            wait_s = max(_AGAIN_S_MIN, (limits.cost - one.tokens) / self._rate.per_s)
            raise BusyError(
                f"more than {self._rate.per_s:g} calls a second: ask again in {wait_s:.1f} s",
                retry_after_s=round(wait_s, 3),
            )
        one.tokens -= limits.cost
        name = method.rpartition("/")[2]
        if one.open.get(method, 0) >= limits.each:
            raise BusyError(
                f"{limits.each} calls of {name} by this caller are under way already",
                retry_after_s=_AGAIN_S,
            )
        if self._open.get(method, 0) >= limits.all:
            raise BusyError(f"{limits.all} calls of {name} are under way", retry_after_s=_AGAIN_S)
        one.open[method] = one.open.get(method, 0) + 1
        self._open[method] = self._open.get(method, 0) + 1

    def leave(self, caller: str, method: str) -> None:
        _count_down(self._open, method)
        _count_down(self._callers[caller].open, method)

    def _refilled(self, caller: str, now_s: float) -> _Caller:
        one = self._callers.get(caller)
        if one is None:
            self._sweep(now_s)
            one = self._callers[caller] = _Caller(self._rate.burst, now_s)
        else:
            one.tokens = self._tokens(one, now_s)
            one.at_s = max(one.at_s, now_s)
        return one

    def _tokens(self, one: _Caller, now_s: float) -> float:
        passed_s = max(0.0, now_s - one.at_s)
        return min(self._rate.burst, one.tokens + passed_s * self._rate.per_s)

    def _sweep(self, now_s: float) -> None:
        if len(self._callers) < self._sweep_at:
            return
        self._callers = {
            name: one
            for name, one in self._callers.items()
            if one.open or self._tokens(one, now_s) < self._rate.burst
        }
        self._sweep_at = max(_SWEEP_MIN, 2 * len(self._callers))


def _count_down(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
