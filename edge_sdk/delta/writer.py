"""Writes a container: records into a spool first, then prefix and records, since the index
stands before what it describes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from edge_sdk.base import DeltaError
from edge_sdk.delta.addresses import Addresses
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
from edge_sdk.delta.methods import MAPS, Method
from edge_sdk.delta.prediction import Prediction, SourceRange, put_prediction
from edge_sdk.delta.records import KIND_END, KIND_TABLE, Place, put_place, seal
from edge_sdk.delta.varint import varints


@dataclass(slots=True, kw_only=True)
class MethodUse:
    """How much one method made: target bytes, and bytes of the container."""

    records: int = 0
    target_bytes: int = 0
    delta_bytes: int = 0


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
    """Takes records in the order of the target."""

    def __init__(
        self, spool: BinaryIO, sources: Sequence[FileRef], targets: Sequence[FileRef]
    ) -> None:
        self.uses: dict[str, MethodUse] = {}
        self._spool = spool
        self._sources = sources
        self._targets = targets
        self._repeats = False
        self._addresses = Addresses(file.size_bytes for file in targets)
        self._offset = 0
        self._records = 0
        self._runs: list[ChunkRun] = []
        self._tables: list[TableEntry] = []
        self._slots: dict[int, Predicted] = {}
        self._mapped = False
        self._codes: dict[int, CodeTable] = {}
        self._methods: set[int] = set()
        self._record_memory_bytes = 0

    def record(
        self, method: Method, place: Place, tail: bytes, *, reads_target: bool = False
    ) -> None:
        """A record; ``tail`` is its body behind the place."""
        self._repeats |= reads_target
        body = put_place(place) + tail
        start = self._addresses.of(place.file, place.offset)
        begin = self._addresses.chunks_before(start)
        end = self._addresses.chunks_before(start + place.length)
        if begin < end:
            run = ChunkRun(first_chunk=begin, chunks=end - begin, offset=self._offset)
            self._runs.append(run)
        needed = method.memory_bytes(place.length, len(body))
        self._record_memory_bytes = max(self._record_memory_bytes, needed)
        self._methods.add(method.number)
        self._append(seal(method.number, body), method.name, place.length)

    def table(self, predicted: Predicted) -> None:
        """Brings a prediction into force, if it is not."""
        slot = slot_of(predicted)
        if self._slots.get(slot) == predicted:
            return
        prediction = predicted if isinstance(predicted, Prediction) else self._whole(predicted)
        self._mapped |= not prediction.is_plain
        self._slots[slot] = predicted
        name = TABLE if prediction.is_plain else MAPS
        self._put_table(name, slot, put_prediction(prediction))

    def code(self, slot: int, table: CodeTable) -> None:
        """Brings a code table into force, if it is not."""
        if self._codes.get(slot) == table:
            return
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
                repeats=self._repeats,
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
