"""What a delta holds, without its source: header, index, and each record's frame and check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.base import DeltaError
from edge_sdk.delta.apply import naming, read_header
from edge_sdk.delta.container import (
    END_MARK,
    FORMAT_VERSION,
    PREDICTION_SLOTS,
    PREFIX_BYTES_MAX,
    TABLE_SLOTS,
    FileRef,
    Header,
)
from edge_sdk.delta.files import OpenFile, open_one
from edge_sdk.delta.methods import MAPS, REGISTRY
from edge_sdk.delta.prediction import parse_prediction
from edge_sdk.delta.records import (
    HEAD_BYTES_MAX,
    KIND_END,
    KIND_TABLE,
    Place,
    head_length,
    open_record,
    parse_place,
)
from edge_sdk.delta.varint import Cursor
from edge_sdk.delta.writer import TABLE, MethodUse


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaFacts:
    """``methods`` counts by method name, table records as ``table`` or, where predictions have
    dimensions or value maps, ``maps``."""

    version: int
    folder: bool
    memory_bytes: int
    delta_bytes: int
    prefix_bytes: int
    sources: tuple[FileRef, ...]
    targets: tuple[FileRef, ...]
    chunks: int
    tables: int
    methods: Mapping[str, MethodUse]


def inspect(delta: Path) -> DeltaFacts:
    """Reads a delta through. Raises: DeltaError (damaged, truncated), NotFoundError."""
    with naming(delta), open_one(delta, str(delta)) as container:
        header = read_header(container, memory_limit_bytes=PREFIX_BYTES_MAX)
        if container.size_bytes < header.delta_bytes:
            raise DeltaError(
                f"{delta} is truncated: {container.size_bytes} of {header.delta_bytes} bytes"
            )
        if container.size_bytes > header.delta_bytes:
            raise DeltaError(
                f"{delta} has {container.size_bytes} bytes; the delta in it {header.delta_bytes}"
            )
        uses = _count(container, header)
    return DeltaFacts(
        version=FORMAT_VERSION,
        folder=header.folder,
        memory_bytes=header.memory_bytes,
        delta_bytes=header.delta_bytes,
        prefix_bytes=header.prefix_bytes,
        sources=header.sources,
        targets=header.targets,
        chunks=header.chunk_count,
        tables=min(TABLE_SLOTS, header.index.table_count),
        methods=uses,
    )


def _count(container: OpenFile, header: Header) -> dict[str, MethodUse]:
    uses: dict[str, MethodUse] = {}
    for record in records(container, header):
        use = uses.setdefault(record.name, MethodUse())
        use.records += 1
        use.target_bytes += record.place.length if record.place else 0
        use.delta_bytes += record.delta_bytes
    return uses


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRecord:
    """A table (``place`` None) or data record; ``body`` stands behind the place.

    ``name`` is that of the method, or as in ``DeltaFacts``.
    """

    name: str
    delta_bytes: int
    place: Place | None
    body: Cursor


def records(container: OpenFile, header: Header) -> Iterator[HeldRecord]:
    """Each record before the end. Raises: DeltaError."""
    at = header.prefix_bytes
    while True:
        record = _read_record(container, at)
        kind, body = open_record(record, at - header.prefix_bytes)
        if kind == KIND_END:
            break
        is_table = kind == KIND_TABLE
        if not is_table and (kind not in header.methods or kind not in REGISTRY):
            raise body.error(f"has method {kind}, which the header or this release lacks")
        yield HeldRecord(
            name=_table_name(record, header) if is_table else REGISTRY[kind].name,
            delta_bytes=len(record),
            place=None if is_table else parse_place(body),
            body=body,
        )
        at += len(record)
    if container.read(at + len(record), len(END_MARK)) != END_MARK:
        raise DeltaError(f"{container.path} does not end with its mark")


def _read_record(container: OpenFile, at: int) -> bytes:
    for head_bytes in range(2, HEAD_BYTES_MAX + 1):
        head = container.read(at, head_bytes)
        if len(head) < head_bytes:
            break
        length = head_length(head)
        if length is not None:
            record = container.read(at, length)
            if len(record) == length:
                return record
            break
    raise DeltaError(f"{container.path} is truncated")


def _table_name(record: bytes, header: Header) -> str:
    _, body = open_record(record, 0)
    if body.varint() >= PREDICTION_SLOTS or parse_prediction(body, header.sources).is_plain:
        return TABLE
    return MAPS
