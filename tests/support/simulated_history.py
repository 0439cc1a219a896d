"""A line of versions in numbers: what deltas between them cost, as measured, and what the
planner makes of it. Nothing is encoded; every decision is the planner's own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from distributor.planning import (
    ArtifactFacts,
    DeltaOffer,
    History,
    Kept,
    Plan,
    StoredDelta,
    judge,
    needed_pairs,
    plan,
    to_evict,
    wanted,
)
from edge_sdk.base import Digest
from tests.support.planning_facts import METHODS, artifact, decoder, device, offer

# Bytes of a delta over so many versions of one training run (2.47 million bf16 weights), and
# of the whole: measured over 50 versions, three steps of AdamW at 3e-5 each.
MEASURED = {
    1: 455_000,
    2: 630_000,
    3: 740_000,
    5: 900_000,
    10: 1_140_000,
    20: 1_410_000,
    30: 1_590_000,
    49: 1_820_000,
}
WHOLE_BYTES = 3_480_000
FILE_BYTES = 4_950_000


def delta_bytes(gap: int) -> int:
    """Measured, between two measured ones in proportion. Backwards costs the same."""
    gaps = sorted(MEASURED)
    at = bisect_left(gaps, gap)
    if at == len(gaps):
        return MEASURED[gaps[-1]]
    if gaps[at] == gap:
        return MEASURED[gap]
    low, high = gaps[at - 1], gaps[at]
    share = (gap - low) / (high - low)
    return round(MEASURED[low] + share * (MEASURED[high] - MEASURED[low]))


@dataclass
class SimulatedFleet:
    """``runs``: how many devices run each version, by number from 1 on. ``built``: every delta
    that was ever asked for and not evicted, by numbers; 0 is from nothing."""

    versions: int
    runs: dict[int, int] = field(default_factory=dict)
    built: dict[tuple[int, int], DeltaOffer] = field(default_factory=dict)
    builds: int = 0
    budget_bytes: int | None = None

    def __post_init__(self) -> None:
        self.facts = [artifact(version=f"1.{one}.0", size=FILE_BYTES) for one in range(61)]
        self._numbers = {facts.artifact: number for number, facts in enumerate(self.facts)}

    def of(self, number: int) -> ArtifactFacts:
        return self.facts[number]

    def history(self) -> History:
        line = tuple(self.of(one).artifact for one in range(1, self.versions + 1))
        return History(
            line=line,
            file_bytes=dict.fromkeys(line, FILE_BYTES),
            offers=list(self.built.values()),
            running={self.of(one).artifact: count for one, count in self.runs.items()},
        )

    def build_for(self, source: int, target: int) -> None:
        """What a device on ``source`` is to have; within the budget after each build."""
        jobs = wanted(
            decoder(),
            [self.of(source)],
            self.of(target),
            history=self.history(),
            known_methods=METHODS,
        )
        for job in jobs:
            self._build(job.source, job.target)
            self._evict(target)

    def plan(self, source: int, target: int) -> Plan:
        return plan(
            device(),
            [self.of(source)],
            self.of(target),
            list(self.built.values()),
            hubs=self.facts[1 : self.versions + 1],
        )

    def release(self, target: int) -> dict[int, Plan]:
        """A rollout of ``target`` to every device: first all deltas are built, then each
        device gets its plan; by source."""
        self.versions = max(self.versions, target)
        sources = [one for one in sorted(self.runs) if one != target]
        for source in sources:
            self.build_for(source, target)
        return {source: self.plan(source, target) for source in sources}

    @property
    def stored_bytes(self) -> int:
        return sum(one.delta_bytes for one in self.built.values())

    def _build(self, source: Digest | None, target: Digest) -> None:
        pair = (0 if source is None else self._numbers[source], self._numbers[target])
        if pair in self.built:
            return
        size = delta_bytes(abs(pair[1] - pair[0])) if pair[0] else WHOLE_BYTES
        start = self.of(pair[0]) if pair[0] else None
        self.built[pair] = offer(start, self.of(pair[1]), size)
        self.builds += 1

    def judged(self, target: int) -> tuple[Kept, ...]:
        """Everything built, while a rollout brings all devices to ``target``."""
        history, end = self.history(), self.of(target).artifact
        waiting = [
            ("r1", end, (self.of(source).artifact,)) for source in self.runs if source != target
        ]
        return judge(
            [stored(one) for one in self.built.values()],
            history,
            current=[end],
            needed=needed_pairs(waiting, history),
        )

    def _evict(self, target: int) -> None:
        if self.budget_bytes is None or self.stored_bytes <= self.budget_bytes:
            return
        judged = self.judged(target)
        gone = to_evict(judged, short_bytes=self.stored_bytes - self.budget_bytes)
        pairs = {kept.stored.pair for kept in gone}
        self.built = {
            numbers: one
            for numbers, one in self.built.items()
            if (one.source, one.target) not in pairs
        }


def stored(one: DeltaOffer, *, built_ms: int = 0, capability: str = "v0 literal 1") -> StoredDelta:
    return StoredDelta(
        source=one.source,
        target=one.target,
        capability=capability,
        delta=one.delta,
        size_bytes=one.delta_bytes,
        built_ms=built_ms,
        is_written=True,
    )


def mean_bytes(sent: Mapping[int, int], runs: Mapping[int, int]) -> float:
    """What one device is sent, over all devices that run one of these."""
    devices = sum(runs[source] for source in sent)
    return sum(size * runs[source] for source, size in sent.items()) / devices


def wire_bytes(plans: Mapping[int, Plan]) -> dict[int, int]:
    return {source: plan.wire_bytes for source, plan in plans.items()}
