"""What is stored, as messages: why each version and delta is kept, and what could go."""

from __future__ import annotations

from collections.abc import Iterable

from distributor.catalog import CatalogDelta, Published
from distributor.planning import Kept
from distributor.services.keeping import Shelf, Stock
from distributor.services.wire import raw_digest
from edge_sdk.protos import fleet_v1_pb2 as fleet


def from_stock(stock: Stock, *, budget_bytes: int) -> fleet.ListStorageResponse:
    sizes: dict[bytes, int] = {}
    staying: set[bytes] = set()
    response = fleet.ListStorageResponse(files_bytes=stock.files_bytes, budget_bytes=budget_bytes)
    for shelf in stock.shelves:
        for published in shelf.published:
            response.versions.append(_version(published, shelf, stock))
        for kept, row in zip(shelf.kept, shelf.deltas, strict=True):
            response.deltas.append(_delta(kept, row, stock))
            sizes[row.delta.raw] = row.size_bytes  # the same bytes, stored once
            if not kept.could_go:
                staying.add(row.delta.raw)
    response.deltas_bytes = sum(sizes.values())
    response.could_go_bytes = sum(size for digest, size in sizes.items() if digest not in staying)
    return response


def _version(one: Published, shelf: Shelf, stock: Stock) -> fleet.StoredVersion:
    return fleet.StoredVersion(
        artifact=one.artifact.raw,
        model=str(one.model),
        version=str(one.version),
        variant=one.variant,
        files_bytes=one.size_bytes,
        golden_bytes=stock.golden_bytes[one.artifact],
        key=shelf.history.is_key(one.artifact),
        devices=shelf.history.running.get(one.artifact, 0),
        reasons=_version_reasons(one, shelf),
    )


def _version_reasons(one: Published, shelf: Shelf) -> Iterable[str]:
    yield from (f"rollout {name} brings it" for name in shelf.rollouts.get(one.artifact, ()))
    devices = shelf.history.running.get(one.artifact, 0)
    if devices:
        yield "1 device runs it" if devices == 1 else f"{devices} devices run it"
    if shelf.history.is_key(one.artifact):
        yield "key: older versions come to newer ones by it"
    yield "published: every delta is made from such files"


def _delta(kept: Kept, row: CatalogDelta, stock: Stock) -> fleet.StoredDelta:
    target = stock.names[row.target]
    message = fleet.StoredDelta(
        delta=row.delta.raw,
        model=str(target.model),
        variant=target.variant,
        source_artifact=raw_digest(row.source),
        target_artifact=row.target.raw,
        target_version=str(target.version),
        size_bytes=row.size_bytes,
        methods=row.methods,
        decoder_memory_bytes=row.decoder_memory_bytes,
        built_ms=row.built_ms,
        use=kept.use.name.lower(),
        reasons=kept.reasons,
        could_go=kept.could_go,
        worth_bytes=kept.worth_bytes,
    )
    if row.source is not None:  # always of the same model
        source = stock.names[row.source]
        message.source_version, message.source_variant = str(source.version), source.variant
    return message
