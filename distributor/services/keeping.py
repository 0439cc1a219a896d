"""Keeps stored deltas within their budget, and says what is kept and why.

The one caller of ``distributor.planning.keeping``. Rows go first, then blobs: whatever a
killed process leaves half-done, the next start removes.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from distributor import catalog, devices, rollouts
from distributor.catalog import CatalogDelta, Published
from distributor.planning import (
    DeltaJob,
    DeltaOffer,
    History,
    Kept,
    Pair,
    StoredDelta,
    judge,
    needed_pairs,
    to_evict,
)
from distributor.storage import Blobs, Database
from edge_sdk.base import Digest, ModelName, NotFoundError
from edge_sdk.delta import FORMAT_VERSION

_LOG = logging.getLogger(__name__)
_ASKED_S = 600.0  # from a plan to the end of its first fetch


def offer_of(delta: CatalogDelta) -> DeltaOffer:
    return DeltaOffer(
        source=delta.source,
        target=delta.target,
        delta=delta.delta,
        delta_bytes=delta.size_bytes,
        decoder_memory_bytes=delta.decoder_memory_bytes,
        format_version=delta.format_version,
        methods=frozenset(delta.methods),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """One model in one variant: its versions in order, and the deltas to them, judged, the
    least useful first. ``rollouts``: those that are not over, by what they bring."""

    published: tuple[Published, ...]
    history: History
    kept: tuple[Kept, ...]
    deltas: tuple[CatalogDelta, ...]  # the same, as the catalog has them
    rollouts: Mapping[Digest, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What is stored, of one model or all. ``golden_bytes``: of each artifact's sample.

    names: version and variant of every artifact that a delta comes from.
    """

    shelves: tuple[Shelf, ...]
    golden_bytes: Mapping[Digest, int]
    files_bytes: int
    names: Mapping[Digest, Published]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What deltas are wanted for: by devices as they are, by rollouts, by who asked lately."""

    running: Mapping[Digest, int]
    waiting: Sequence[tuple[str, Digest, frozenset[Digest]]]
    newest: Collection[Digest]
    asked: Mapping[Pair, float]


class Keeper:
    """The room for deltas. ``budget_bytes`` 0: no limit but the disk."""

    def __init__(
        self, database: Database, blobs: Blobs, *, budget_bytes: int, asked_s: float = _ASKED_S
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._asked: dict[Pair, float] = {}  # when last
        self.budget_bytes = budget_bytes
        self.asked_s = asked_s  # how long what was asked for stays, whatever else comes

    def ask(self, job: DeltaJob) -> None:
        """Somebody asks for a delta, to plan with it and then to fetch it."""
        self._asked[job.source, job.target] = time.monotonic()

    def asked(self) -> Mapping[Pair, float]:
        """What was asked for lately, with the seconds since then."""
        now_s = time.monotonic()
        first_s = now_s - self.asked_s
        self._asked = {pair: at_s for pair, at_s in self._asked.items() if at_s > first_s}
        return {pair: now_s - at_s for pair, at_s in self._asked.items()}

    async def make(self, size_bytes: int = 0) -> None:
        """Evicts what is least useful until so many bytes more are within the budget.

        What is needed stays, even where the budget is too small for it.
        """
        if not self.budget_bytes:
            return
        used_bytes = await self._database.read(catalog.delta_bytes)
        short_bytes = used_bytes + size_bytes - self.budget_bytes
        if short_bytes > 0 and await self.free(short_bytes) < short_bytes:
            _LOG.warning(
                "the deltas that are needed take more than their budget of %d bytes",
                self.budget_bytes,
            )

    async def free(self, size_bytes: int) -> int:
        """Evicts what is least useful until so many bytes came free; how many did."""
        async with self._blobs.settling:
            gone, sizes = await self._database.write(_evict, size_bytes, self.asked())
            await self._blobs.remove(list(sizes))
        for kept in gone:
            _LOG.info("evicted a delta of %d bytes: %s", kept.stored.size_bytes, kept.reasons[0])
        return sum(sizes.values())


def stock(connection: Connection, model: ModelName | None, asked: Mapping[Pair, float]) -> Stock:
    """Raises: NotFoundError (nothing of that name is published)."""
    found = catalog.list_artifacts(connection, model)
    if model is not None and not found:
        raise no_such_model(model)
    golden = {}
    for one in found:
        manifest = one.manifest()
        sizes = {entry.path: entry.size_bytes for entry in manifest.files}
        golden[one.artifact] = 0 if manifest.golden is None else sizes[manifest.golden.path]
    published = catalog.history_of(connection, model)
    return Stock(
        shelves=tuple(shelves(connection, model, asked)),
        golden_bytes=golden,
        files_bytes=catalog.file_bytes(connection, [one.artifact for one in published]),
        names={one.artifact: one for one in published},
    )


def no_such_model(model: ModelName) -> NotFoundError:
    return NotFoundError(f"no version of {model} is published here; see: edge-fleet models")


def _evict(
    connection: Connection, short_bytes: int, asked: Mapping[Pair, float]
) -> tuple[list[Kept], dict[Digest, int]]:
    """What goes, and the blobs that nothing speaks of any more, with their bytes."""
    judged = [kept for shelf in shelves(connection, None, asked) for kept in shelf.kept]
    gone = list(to_evict(judged, short_bytes=short_bytes))
    blobs = catalog.remove_deltas(connection, [kept.stored for kept in gone])
    sizes = {kept.stored.delta: kept.stored.size_bytes for kept in gone}
    return gone, {digest: sizes[digest] for digest in blobs}


def shelves(
    connection: Connection, model: ModelName | None, asked: Mapping[Pair, float]
) -> list[Shelf]:
    """Every model in every variant, or those of one model, by name."""
    lines: dict[tuple[ModelName, str], list[Published]] = defaultdict(list)
    for one in catalog.history_of(connection, model):
        lines[one.model, one.variant].append(one)
    demand = Demand(
        running=devices.running_on(connection, model),
        waiting=rollouts.under_way(connection),
        newest=rollouts.newest_targets(connection),
        asked=asked,
    )
    return [_shelf(connection, lines[key], demand) for key in sorted(lines)]


def _shelf(connection: Connection, line: Sequence[Published], demand: Demand) -> Shelf:
    artifacts = [one.artifact for one in line]
    deltas = catalog.list_deltas(connection, artifacts)
    history = History(
        line=tuple(artifacts),
        file_bytes={one.artifact: one.size_bytes for one in line},
        offers=[offer_of(one) for one in deltas],
        running={
            artifact: count for artifact, count in demand.running.items() if artifact in artifacts
        },
    )
    own = [one for one in demand.waiting if one[1] in artifacts]
    brought: dict[Digest, set[str]] = defaultdict(set)
    for rollout, target, _ in own:
        brought[target].add(rollout)
    ends = {artifacts[-1], *brought, *(one for one in demand.newest if one in artifacts)}
    kept = judge(
        [_stored(one) for one in deltas],
        history,
        current=sorted(ends),
        needed=needed_pairs(own, history, asked=demand.asked),
    )
    rows = {((one.source, one.target), one.capability): one for one in deltas}
    return Shelf(
        published=tuple(line),
        history=history,
        kept=kept,
        deltas=tuple(rows[one.stored.pair, one.stored.capability] for one in kept),
        rollouts={target: tuple(sorted(names)) for target, names in brought.items()},
    )


def _stored(delta: CatalogDelta) -> StoredDelta:
    return StoredDelta(
        source=delta.source,
        target=delta.target,
        capability=delta.capability,
        delta=delta.delta,
        size_bytes=delta.size_bytes,
        built_ms=delta.built_ms,
        is_written=delta.format_version == FORMAT_VERSION,
    )
