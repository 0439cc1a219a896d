"""What every method is, and what it is given to decode with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from edge_sdk.base import DeltaError, WrongSourceError
from edge_sdk.delta.coder.tables import CodeTable
from edge_sdk.delta.container import FileRef
from edge_sdk.delta.frames import Bytes, Unpacker
from edge_sdk.delta.prediction import Prediction
from edge_sdk.delta.varint import Cursor


class DecodeContext:
    """The sources and the tables in force: all that a record may refer to."""

    def __init__(
        self, sources: tuple[FileRef, ...], read_source: Callable[[int, int, int], bytes]
    ) -> None:
        self.sources = sources
        self.tables: dict[int, Prediction] = {}
        self.codes: dict[int, CodeTable] = {}
        self.unpacker = Unpacker()
        self._room = bytearray()
        self._read_source = read_source

    def copy(self) -> DecodeContext:
        """The same with memory of its own; what is set in either is not set in the other."""
        context = DecodeContext(self.sources, self._read_source)
        context.tables, context.codes = self.tables, self.codes
        return context

    def check_range(self, file: int, offset: int, length: int) -> None:
        """Raises: DeltaError: no source has these bytes."""
        if file >= len(self.sources) or offset + length > self.sources[file].size_bytes:
            raise DeltaError("a record refers to bytes that no source has")

    def read(self, file: int, offset: int, length: int) -> bytes:
        """Source bytes. Raises: DeltaError (out of range), WrongSourceError (too short)."""
        self.check_range(file, offset, length)
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
        self.tables = {**self.tables, slot: prediction.loaded(self.read)}

    def set_code(self, slot: int, table: CodeTable) -> None:
        self.codes = {**self.codes, slot: table}

    def predict(self, slot: int, position: int, length: int) -> bytes:
        """Predicted bytes. Raises: DeltaError, WrongSourceError."""
        if slot not in self.tables:
            raise DeltaError(f"a record uses table {slot}, which is not in force")
        prediction = self.tables[slot]
        if not prediction.is_affordable(position, length):
            raise DeltaError("a record is predicted from too many places of a source")
        return prediction.read(position, length, self.read)

    def code(self, slot: int) -> CodeTable:
        """Raises: DeltaError."""
        if slot not in self.codes:
            raise DeltaError(f"a record uses code table {slot}, which is not in force")
        return self.codes[slot]


class Method(Protocol):
    """One way to make target bytes. ``number`` stands in the container, ``name`` in manifests
    of what a device can decode. ``spans_chunks`` is for ``copy`` alone; ``takes_code`` for
    those that refer to a code table."""

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
