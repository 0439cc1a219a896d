"""Writes a container: records into a spool first, then prefix and records, since the index
stands before what it describes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from edge_sdk.base import DeltaError, chunk_count
from edge_sdk.delta.coder import tables as code_tables
from edge_sdk.delta.coder.tables import CodeTable
from edge_sdk.delta.container import (
    CODE_TABLE_BYTES,
    END_MARK,
    MAPPED_BYTES,
    PREDICTION_SLOTS,
    TABLES_BYTES,
    ChunkRun,
    FileRef,
    TableEntry,
    put_header,
    put_index,
    put_prefix,
)
from edge_sdk.delta.methods import MAPS, Copy, Method
from edge_sdk.delta.prediction import Prediction, SourceRange, put_prediction
from edge_sdk.delta.records import KIND_END, KIND_TABLE, Place, put_place, seal
from edge_sdk.delta.varint import varints

_COPY = Copy()


@dataclass(slots=True, kw_only=True)
class MethodUse:
    """How much one method made: target bytes, and bytes of the container."""

    records: int = 0
    target_bytes: int = 0
    delta_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCopy:
    """A copy that may still grow."""

    place: Place
    source_file: int
    source_offset: int

    def grown(self, place: Place, source_file: int, source_offset: int) -> PendingCopy | None:
        """This copy with the next one joined to it; None where they do not touch."""
        touches = (
            place.file == self.place.file
            and place.offset == self.place.end
            and source_file == self.source_file
            and source_offset == self.source_offset + self.place.length
        )
        if not touches:
            return None
        whole = Place(
            file=place.file,
            offset=self.place.offset,
            length=self.place.length + place.length,
        )
        return PendingCopy(
            place=whole, source_file=self.source_file, source_offset=self.source_offset
        )


TABLE = "table"
"""What table records are counted as that need nothing but methods."""

Predicted = int | Prediction
"""What a record is predicted from: a source file as it is, or what was found for a tensor."""

# A tensor's records stand one after the other: one slot is enough for what is not plain.
_TENSOR_SLOT = PREDICTION_SLOTS - 1


def slot_of(predicted: Predicted) -> int:
    """The table slot that predictions use."""
    return predicted % _TENSOR_SLOT if isinstance(predicted, int) else _TENSOR_SLOT


class ContainerWriter:
    """Takes records in the order of the target; neighbouring copies become one."""

    def __init__(
        self, spool: BinaryIO, sources: Sequence[FileRef], targets: Sequence[FileRef]
    ) -> None:
        self.uses: dict[str, MethodUse] = {}
        self._spool = spool
        self._sources = sources
        self._targets = targets
        self._first_chunks = [
            sum(chunk_count(file.size_bytes) for file in targets[:number])
            for number in range(len(targets))
        ]
        self._offset = 0
        self._records = 0
        self._runs: list[ChunkRun] = []
        self._tables: list[TableEntry] = []
        self._slots: dict[int, Predicted] = {}
        self._mapped = False
        self._codes: dict[int, CodeTable] = {}
        self._pending: PendingCopy | None = None
        self._methods: set[int] = set()
        self._record_memory_bytes = 0

    def copy(self, place: Place, source_file: int, source_offset: int) -> None:
        """Source bytes as they are."""
        if self._pending is not None:
            grown = self._pending.grown(place, source_file, source_offset)
            if grown is not None:
                self._pending = grown
                return
            self._flush()
        self._pending = PendingCopy(
            place=place, source_file=source_file, source_offset=source_offset
        )

    def record(self, method: Method, place: Place, tail: bytes) -> None:
        """A record of any method but copy; ``tail`` is its body behind the place."""
        self._flush()
        self._put(method, place, tail)

    def table(self, predicted: Predicted) -> None:
        """Brings a prediction into force, if it is not."""
        slot = slot_of(predicted)
        if self._slots.get(slot) == predicted:
            return
        self._flush()
        prediction = predicted if isinstance(predicted, Prediction) else self._whole(predicted)
        self._mapped |= not prediction.is_plain
        self._slots[slot] = predicted
        name = TABLE if prediction.is_plain else MAPS
        self._put_table(name, slot, put_prediction(prediction))

    def code(self, slot: int, table: CodeTable) -> None:
        """Brings a code table into force, if it is not."""
        if self._codes.get(slot) == table:
            return
        self._flush()
        self._codes[slot] = table
        self._put_table(TABLE, slot, code_tables.pack(table))

    def _put_table(self, name: str, slot: int, content: bytes) -> None:
        record = seal(KIND_TABLE, varints(slot) + content)
        self._tables.append(TableEntry(offset=self._offset, slot=slot, length=len(record)))
        self._append(record, name, 0)

    def _whole(self, source_file: int) -> Prediction:
        """A source file as it is."""
        length = self._sources[source_file].size_bytes
        return Prediction(ranges=(SourceRange(file=source_file, offset=0, length=length),))

    def _flush(self) -> None:
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        tail = _COPY.encode(pending.source_file, pending.source_offset)
        self._put(_COPY, pending.place, tail)

    def _put(self, method: Method, place: Place, tail: bytes) -> None:
        body = put_place(place) + tail
        first = self._first_chunks[place.file]
        begin, end = first + chunk_count(place.offset), first + chunk_count(place.end)
        if begin < end:
            run = ChunkRun(first_chunk=begin, chunks=end - begin, offset=self._offset)
            self._runs.append(run)
        needed = method.memory_bytes(place.length, len(body))
        self._record_memory_bytes = max(self._record_memory_bytes, needed)
        self._methods.add(method.number)
        self._append(seal(method.number, body), method.name, place.length)

    def _append(self, record: bytes, name: str, target_bytes: int) -> None:
        self._spool.write(record)
        self._offset += len(record)
        self._records += 1
        use = self.uses.setdefault(name, MethodUse())
        use.records += 1
        use.target_bytes += target_bytes
        use.delta_bytes += len(record)

    def finish(self, out: BinaryIO, *, folder: bool, memory_limit_bytes: int) -> tuple[int, int]:
        """Writes the container; returns its length and the memory that decoding it needs.

        Raises: DeltaError (the memory is more than the limit).
        """
        self._flush()
        target_bytes = sum(file.size_bytes for file in self._targets)
        end = seal(KIND_END, varints(target_bytes, self._records)) + END_MARK
        end_offset = self._offset
        self._spool.write(end)
        index = put_index(
            records_bytes=end_offset + len(end),
            end_offset=end_offset,
            runs=self._runs,
            tables=self._tables,
        )
        prefix, memory_bytes = self._prefix(index, folder=folder)
        if memory_bytes > memory_limit_bytes:
            raise DeltaError(
                f"decoding would need {memory_bytes} bytes of memory; the limit is "
                f"{memory_limit_bytes}"
            )
        out.write(prefix)
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, out, 256 << 10)
        return len(prefix) + end_offset + len(end), memory_bytes

    def _prefix(self, index: bytes, *, folder: bool) -> tuple[bytes, int]:
        """The prefix counts in the memory that it states: its own length settles at once."""
        memory_bytes = 0
        while True:
            header = put_header(
                folder=folder,
                mapped=self._mapped,
                memory_bytes=memory_bytes,
                methods=sorted(self._methods),
                sources=self._sources,
                targets=self._targets,
            )
            prefix = put_prefix(header, index)
            needed = len(prefix) + TABLES_BYTES + self._record_memory_bytes
            needed += len(self._codes) * CODE_TABLE_BYTES
            needed += MAPPED_BYTES if self._mapped else 0
            if needed <= memory_bytes:
                return prefix, memory_bytes
            memory_bytes = needed
