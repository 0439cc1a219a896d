"""The versions of one model in one variant, and the way from an old one to a new one.

What was published is a *line*, in that order; every fifth of it is a *key*. Whoever is at
most five behind, or stands on a key, is given a delta of its own. Further back stands the
tail. A few versions there get theirs too; where devices run many of them, a direct delta
serves one source for one release, while the one to the next key lasts for ever and the one
from there is shared, so a direct one is built only where it saves the devices that run its
source at least its own bytes. Costs are bytes, nothing else: applying takes time in
proportion to the target, whichever way it comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from distributor.planning.model import DeltaOffer
from edge_sdk.base.digest import Digest

KEY_EVERY = 5
_FEW = 5  # versions in the tail for which hubs would hardly save a build
# A delta over n versions has about n ** _GROWTH times the bytes of a delta over one: measured
# over 50 versions of one training run, n ** 0.46 at first, n ** 0.3 at the end.
_GROWTH = 0.4
_FIRST_SHARE = 0.13  # of the whole, a delta over one version (same run); until one is measured

Pair = tuple[Digest | None, Digest]  # source and target; no source: the whole


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What planning knows of one line.

    line: artifacts, the oldest first. file_bytes: of each artifact's files.
    offers: deltas that are built, to whichever of them. running: how many devices run what.
    """

    line: tuple[Digest, ...] = ()
    file_bytes: Mapping[Digest, int] = field(default_factory=dict)
    offers: Sequence[DeltaOffer] = ()
    running: Mapping[Digest, int] = field(default_factory=dict)
    measured: Mapping[Pair, int] = field(init=False)  # bytes of the smallest delta of each pair
    _numbers: Mapping[Digest, int] = field(init=False)
    _unit_bytes: float | None = field(init=False)  # of a delta over one version

    def __post_init__(self) -> None:
        measured: dict[Pair, int] = {}
        for one in self.offers:
            pair = (one.source, one.target)
            measured[pair] = min(one.delta_bytes, measured.get(pair, one.delta_bytes))
        numbers = {artifact: at for at, artifact in enumerate(self.line, 1)}
        object.__setattr__(self, "measured", measured)
        object.__setattr__(self, "_numbers", numbers)
        units = [
            size / gap**_GROWTH
            for (source, target), size in measured.items()
            if source is not None and (gap := self.gap(source, target))
        ]
        object.__setattr__(self, "_unit_bytes", median(units) if units else None)

    def gap(self, source: Digest, target: Digest) -> int | None:
        """Versions from one to the other; none where they are not of this line."""
        numbers = self._numbers
        if source not in numbers or target not in numbers:
            return None
        return abs(numbers[target] - numbers[source])

    def is_key(self, artifact: Digest) -> bool:
        return self._numbers.get(artifact, 1) % KEY_EVERY == 0

    def next_key(self, artifact: Digest) -> Digest | None:
        """The first key after an artifact; none where none is published yet."""
        number = self._numbers.get(artifact)
        if number is None:
            return None
        at = (number // KEY_EVERY + 1) * KEY_EVERY
        return self.line[at - 1] if at <= len(self.line) else None

    def hub(self, source: Digest, target: Digest) -> Digest | None:
        """The key by which the tail comes to ``target``; none for whoever is not of the tail.

        Ways back to an older version have none: the version before is still held.
        """
        numbers = self._numbers
        if source not in numbers or target not in numbers:
            return None
        if numbers[target] - numbers[source] <= KEY_EVERY or self.is_key(source):
            return None
        return self.next_key(source)

    def tail(self, target: Digest) -> int:
        """How many versions devices run that hubs lead to ``target``."""
        return sum(self.hub(source, target) is not None for source in self.running)

    def whole_bytes(self, target: Digest) -> float:
        """Of the whole: measured, else the files' own."""
        return self.measured.get((None, target), self.file_bytes.get(target, 0))

    def delta_bytes(self, source: Digest, target: Digest) -> float:
        """Measured where it is built, else estimated by the versions between the two; a delta
        never costs more than the whole (the encoder sees to that)."""
        known = self.measured.get((source, target))
        if known is not None:
            return known
        whole_bytes = self.whole_bytes(target)
        unit_bytes = self._unit_bytes or _FIRST_SHARE * whole_bytes
        gap = self.gap(source, target)
        return whole_bytes if gap is None else min(whole_bytes, unit_bytes * gap**_GROWTH)


def route(source: Digest, target: Digest, history: History) -> tuple[Pair, ...]:
    """The deltas by which a device that runs ``source`` is to come to ``target``.

    One: direct; two: by a hub; none: as the whole. Somebody asks, so at least one device
    runs the source, whatever the last check-ins said.
    """
    hub = history.hub(source, target)
    if hub is None:
        return ((source, target),)
    is_there = (source, hub) in history.measured and (hub, target) in history.measured
    if history.tail(target) <= _FEW and not is_there:
        return ((source, target),)
    direct_bytes = history.delta_bytes(source, target)
    hub_bytes = history.delta_bytes(source, hub) + history.delta_bytes(hub, target)
    shared_bytes = min(hub_bytes, history.whole_bytes(target))
    devices = max(1, history.running.get(source, 0))
    if devices * (shared_bytes - direct_bytes) >= direct_bytes:
        return ((source, target),)
    return ((source, hub), (hub, target)) if hub_bytes <= shared_bytes else ()
