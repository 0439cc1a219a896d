"""What every method is, and what it is given to decode with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from edge_sdk.base import DeltaError, WrongSourceError
from edge_sdk.delta.addresses import Addresses
from edge_sdk.delta.coder.tables import CodeTable
from edge_sdk.delta.container import FileRef
from edge_sdk.delta.frames import Bytes, Unpacker
from edge_sdk.delta.prediction import Prediction, ReadAhead
from edge_sdk.delta.varint import Cursor

ReadFile = Callable[[int, int, int], bytes]
"""File, offset and length to bytes; fewer only where the file ends."""


class DecodeContext:
    """What a record may refer to: sources, tables in force, and what was made of the target.

    ``position`` counts the target's bytes before the record. Without ``read_target`` none of
    them can be read.
    """

    def __init__(
        self,
        sources: Sequence[FileRef],
        read_source: ReadFile,
        targets: Sequence[FileRef] = (),
        read_target: ReadFile | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.tables: dict[int, Prediction] = {}
        self.codes: dict[int, CodeTable] = {}
        self.unpacker = Unpacker()
        self._room = bytearray()
        self.position = 0
        self._source_addresses = Addresses(file.size_bytes for file in sources)
        self._targets = targets
        self._target_addresses = Addresses(file.size_bytes for file in targets)
        self._ahead = ReadAhead()
        self._read_source = read_source
        self._read_target = read_target

    def copy(self) -> DecodeContext:
        """The same with memory of its own for what it makes. What is set in either is not set
        in the other."""
        context = DecodeContext(self.sources, self._read_source, self._targets, self._read_target)
        context.tables, context.codes, context._ahead = self.tables, self.codes, self._ahead
        return context

    def check_range(self, address: int, length: int) -> None:
        """Raises: DeltaError: these bytes are not there, or not yet."""
        readable = self._source_addresses.end
        if self._read_target is not None:
            readable += self.position
        if address + length <= readable:
            return
        if address + length <= self._source_addresses.end + self._target_addresses.end:
            raise DeltaError("a record refers to bytes of the target that it may not read yet")
        raise DeltaError("a record refers to bytes that no source has")

    def read(self, address: int, length: int) -> bytes:
        """Bytes of sources and target. Raises: DeltaError, WrongSourceError (too short)."""
        self.check_range(address, length)
        source_bytes = self._source_addresses.end
        inside = max(0, min(length, source_bytes - address))
        parts = [
            self.read_file(file, offset, count)
            for file, offset, count in self._source_addresses.parts(address, inside)
        ]
        made = address + inside - source_bytes
        parts += (
            self._read_made(file, offset, count)
            for file, offset, count in self._target_addresses.parts(made, length - inside)
        )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_file(self, file: int, offset: int, length: int) -> bytes:
        """Bytes of one source file. Raises: DeltaError, WrongSourceError (too short)."""
        if file >= len(self.sources) or offset + length > self.sources[file].size_bytes:
            raise DeltaError("a record refers to bytes that no source has")
        data = self._read_source(file, offset, length)
        if len(data) != length:
            path = self.sources[file].path
            raise WrongSourceError(f"source {path!r} ends before byte {offset + length}", path=path)
        return data

    def room(self, length: int) -> memoryview:
        """Memory for what a record makes: the same for the next one, since fresh memory costs
        as much time as half of the decoding."""
        if len(self._room) < length:
            self._room = bytearray(length)
        return memoryview(self._room)[:length]

    def set_table(self, slot: int, prediction: Prediction) -> None:
        """What its value map takes from a source is read once, here.

        Raises: WrongSourceError.
        """
        self.tables = {**self.tables, slot: prediction.loaded(self.read_file)}

    def set_code(self, slot: int, table: CodeTable) -> None:
        self.codes = {**self.codes, slot: table}

    def _read_made(self, file: int, offset: int, length: int) -> bytes:
        assert self._read_target is not None
        data = self._read_target(file, offset, length)
        if len(data) != length:
            raise DeltaError(f"target file {file} ends before byte {offset + length}")
        return data

    def predict(self, slot: int, position: int, length: int) -> Bytes:
        """Predicted bytes. Raises: DeltaError, WrongSourceError."""
        prediction = self._prediction(slot, position, length)
        return self._ahead.read(prediction, position, length, self.read_file)

    def predict_leaning(
        self, slot: int, position: int, length: int, *, phase: int, width_bytes: int
    ) -> tuple[bytes, bytes]:
        """Of predicted bytes the elements of this width, from the byte ``phase`` on, and the
        lean of each.

        Raises: DeltaError, WrongSourceError.
        """
        prediction = self._prediction(slot, position, length)
        if prediction.number_bytes != width_bytes or (position + phase) % width_bytes:
            raise DeltaError("a record has a code by leans, which its prediction does not have")
        if position + length > prediction.length:
            raise prediction.too_short()
        whole_bytes = (length - phase) // width_bytes * width_bytes
        return prediction.read_leaning(position + phase, whole_bytes, self.read_file)

    def _prediction(self, slot: int, position: int, length: int) -> Prediction:
        if slot not in self.tables:
            raise DeltaError(f"a record uses table {slot}, which is not in force")
        prediction = self.tables[slot]
        if not prediction.is_affordable(position, length):
            raise DeltaError("a record is predicted from too many places of a source")
        return prediction

    def code(self, slot: int) -> CodeTable:
        """Raises: DeltaError."""
        if slot not in self.codes:
            raise DeltaError(f"a record uses code table {slot}, which is not in force")
        return self.codes[slot]


class Method(Protocol):
    """One way to make target bytes. ``number`` stands in the container, ``name`` in manifests
    of what a device can decode. ``spans_chunks`` tells whether a record may go on over the ends
    of chunks and files; ``takes_code`` whether it refers to a code table."""

    @property
    def number(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def spans_chunks(self) -> bool: ...
    @property
    def takes_code(self) -> bool: ...

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        """What decoding a record needs (FORMAT.md, "Memory"); both arguments in bytes."""

    def decode(
        self, body: Cursor, length: int, skip: int, context: DecodeContext
    ) -> Iterator[Bytes]:
        """Yields the record's ``length`` bytes without the first ``skip`` of them.

        ``body`` stands behind the place. ``skip`` is 0 unless ``spans_chunks``.
        Raises: DeltaError, WrongSourceError.
        """


Registry = Mapping[int, Method]
