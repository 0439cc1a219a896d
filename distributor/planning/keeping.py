"""Which stored deltas are kept and why, and which go first where room is short.

Every delta can be built again from the published files, which are always kept: what goes
costs a build, never a version. What a running rollout needs, or somebody has just asked
for, never goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from distributor.planning.history import History, Pair
from edge_sdk.base.digest import Digest


class Use(IntEnum):
    """What a delta is good for; less goes before more."""

    NOTHING = 0
    TAIL = 1  # a way of versions that no device runs now
    FLEET = 2  # devices run its source, or hold nothing yet
    NEEDED = 3  # by a rollout that is not over, or somebody asked for it lately


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDelta:
    """A delta in the blob store. ``is_written``: in the format that this release writes."""

    source: Digest | None
    target: Digest
    capability: str
    delta: Digest
    size_bytes: int
    built_ms: int
    is_written: bool

    @property
    def pair(self) -> Pair:
        return (self.source, self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A stored delta with what it is good for.

    worth_bytes: how much more would travel without it to the devices that are behind now.
    """

    stored: StoredDelta
    use: Use
    reasons: tuple[str, ...]
    worth_bytes: int

    @property
    def could_go(self) -> bool:
        return self.use is not Use.NEEDED

    @property
    def order(self) -> tuple[int, float, int, str, str, str]:
        """The least useful first: by use, by what each stored byte saves, then the oldest."""
        stored = self.stored
        source = "" if stored.source is None else str(stored.source)
        return (
            self.use,
            self.worth_bytes / max(1, stored.size_bytes),
            stored.built_ms,
            str(stored.target),
            source,
            stored.capability,
        )


def needed_pairs(
    waiting: Iterable[tuple[str, Digest, Collection[Digest]]],
    history: History,
    *,
    asked: Mapping[Pair, float] = MappingProxyType({}),
) -> dict[Pair, tuple[str, ...]]:
    """The deltas that must not go, each with why.

    waiting: rollout, target, and what the device holds, for each device that is under way.
    asked: what somebody is about to fetch, with the seconds since it was asked for.
    """
    found: dict[Pair, set[str]] = {}
    for rollout, target, held in waiting:
        # Whoever loses its source on the way, or finds it rotten, comes by the whole.
        pairs: list[Pair] = [(None, target)]
        for source in held:
            hub = history.hub(source, target)
            pairs += [(source, target)]
            pairs += [] if hub is None else [(source, hub), (hub, target)]
        for pair in pairs:
            found.setdefault(pair, set()).add(rollout)
    said = {
        pair: tuple(f"rollout {rollout} needs it" for rollout in sorted(rollouts))
        for pair, rollouts in found.items()
    }
    for pair, age_s in asked.items():
        said.setdefault(pair, (f"asked for {age_s:.0f} s ago",))
    return said


def judge(
    stored: Sequence[StoredDelta],
    history: History,
    *,
    current: Collection[Digest],
    needed: Mapping[Pair, tuple[str, ...]],
) -> tuple[Kept, ...]:
    """What each stored delta to a version of one line is good for, the least useful first.

    current: the versions that devices are brought to, or will be next.
    """
    sizes = {one.pair: float(one.size_bytes) for one in stored}
    found = []
    for one in stored:
        reasons, use = _reasons(one, history, current, needed.get(one.pair, ()))
        found.append(
            Kept(
                stored=one,
                use=use,
                reasons=reasons,
                worth_bytes=_worth_bytes(one.pair, sizes, history, current),
            )
        )
    return tuple(sorted(found, key=lambda kept: kept.order))


def to_evict(judged: Sequence[Kept], *, short_bytes: int) -> tuple[Kept, ...]:
    """What goes so that at least ``short_bytes`` come free, the least useful first; all that
    could go where that is not enough.

    Deltas of the same bytes are one blob, which comes free with the last of them.
    """
    users: dict[Digest, int] = {}
    for kept in judged:
        users[kept.stored.delta] = users.get(kept.stored.delta, 0) + 1
    gone: list[Kept] = []
    freed_bytes = 0
    for kept in sorted(judged, key=lambda kept: kept.order):
        if freed_bytes >= short_bytes or not kept.could_go:
            break
        gone.append(kept)
        users[kept.stored.delta] -= 1
        if not users[kept.stored.delta]:
            freed_bytes += kept.stored.size_bytes
    return tuple(gone)


def _reasons(
    one: StoredDelta, history: History, current: Collection[Digest], needed: tuple[str, ...]
) -> tuple[tuple[str, ...], Use]:
    """Why a delta is kept, the best reason first, and what it is good for."""
    found: list[tuple[Use, str]] = [(Use.NEEDED, reason) for reason in needed]
    if one.is_written:
        found += _uses(one, history, current)
    elif not found:
        found.append((Use.NOTHING, "in a format that this release writes no more"))
    if not found:
        is_old = one.target not in current and not history.is_key(one.target)
        what = "its target is no longer brought to devices" if is_old else "no device needs it"
        found.append((Use.NOTHING, what))
    return tuple(reason for _, reason in found), max(use for use, _ in found)


def _uses(one: StoredDelta, history: History, current: Collection[Digest]) -> list[tuple[Use, str]]:
    """What the fleet as it is, and the tail, have of a delta."""
    source, target = one.source, one.target
    found: list[tuple[Use, str]] = []
    if source is None:
        if target in current:
            found.append((Use.FLEET, "the whole, for devices that hold no version"))
        return found
    devices = history.running.get(source, 0)
    if devices and any(target in (last, history.hub(source, last)) for last in current):
        said = "1 device runs" if devices == 1 else f"{devices} devices run"
        found.append((Use.FLEET, f"{said} the source"))
    if target == history.next_key(source) and not history.is_key(source):
        found.append((Use.TAIL, "hub: its source's way to the next key"))
    if target in current and history.is_key(source):
        found.append((Use.TAIL, "hub: from a key to the newest"))
    return found


def _worth_bytes(
    pair: Pair, sizes: Mapping[Pair, float], history: History, current: Collection[Digest]
) -> int:
    without = {each: size for each, size in sizes.items() if each != pair}
    saved = sum(
        devices
        * (_way_bytes(runs, last, without, history) - _way_bytes(runs, last, sizes, history))
        for last in current
        for runs, devices in history.running.items()
        if runs != last
    )
    return round(saved)


def _way_bytes(
    source: Digest, target: Digest, sizes: Mapping[Pair, float], history: History
) -> float:
    """What the cheapest stored way costs; the whole can always be built."""
    ways = [history.whole_bytes(target), sizes.get((source, target), float("inf"))]
    hub = history.hub(source, target)
    if hub is not None and (source, hub) in sizes and (hub, target) in sizes:
        ways.append(sizes[source, hub] + sizes[hub, target])
    return min(ways)
