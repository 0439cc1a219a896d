"""An ONNX model without the bytes of its large weights, which it names as external data.

A runtime maps external data instead of copying it. The file that holds a model's weights may
be the model's own: where a tensor's bytes lie in it is known, so the rest of the model, made
in memory, can point there. The file stays as it is. What has no bytes of its own to point at
(strings, sparse tensors, lists of numbers, attributes of nodes) stays inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_sdk.formats.model_file import ModelFile, open_file
from edge_sdk.formats.tensor_map import TensorRange
from edge_sdk.formats.wire import LEN, VARINT, Field, Wire, tag_of

_GRAPH = tag_of(7, LEN)
_INITIALIZER = tag_of(5, LEN)
_RAW = tag_of(9, LEN)
_EXTERNAL = tag_of(13, LEN)
_LOCATION = tag_of(14, VARINT)
_KEY = tag_of(1, LEN)
_VALUE = tag_of(2, LEN)

Span = tuple[int, int]  # [start, end) in the file


def onnx_skeleton(path: Path, outside: frozenset[TensorRange]) -> bytes:
    """The model at ``path`` with the tensors ``outside``, of its own map, as external data.

    Only weights of the main graph leave it; others stay. Raises: WireError, NotFoundError,
    UsageError, UnavailableError (it became shorter meanwhile).
    """
    spans = {(one.offset, one.end): one for one in outside if one.file == path.name}
    with open_file(path) as file:
        wire = Wire(file)
        model = _Pieces(file)
        for begin, field in _fields(wire, 0, file.size_bytes):
            if field.tag == _GRAPH:
                model.message(_GRAPH, _graph(file, wire, field, spans))
            else:
                model.copy(begin, field.end)
        return model.content()


def _graph(file: ModelFile, wire: Wire, graph: Field, spans: dict[Span, TensorRange]) -> bytes:
    pieces = _Pieces(file)
    for begin, field in _fields(wire, graph.start, graph.end):
        tensor = _pointer(file, wire, field, spans) if field.tag == _INITIALIZER else None
        if tensor is None:
            pieces.copy(begin, field.end)
        else:
            pieces.message(_INITIALIZER, tensor)
    return pieces.content()


def _pointer(
    file: ModelFile, wire: Wire, tensor: Field, spans: dict[Span, TensorRange]
) -> bytes | None:
    """A TensorProto with external data in place of its bytes; None: it stays as it is."""
    parts = list(_fields(wire, tensor.start, tensor.end))
    raw = [field for _, field in parts if field.tag == _RAW]
    stored_else = any(field.tag in (_EXTERNAL, _LOCATION) for _, field in parts)
    found = spans.get((raw[0].start, raw[0].end)) if len(raw) == 1 and not stored_else else None
    if found is None:
        return None
    pieces = _Pieces(file)
    for begin, field in parts:
        if field.tag != _RAW:
            pieces.copy(begin, field.end)
    pieces.add(bytes([_LOCATION, 1]))
    for key, value in (
        ("location", found.file),
        ("offset", str(found.offset)),
        ("length", str(found.length)),
    ):
        pieces.message(_EXTERNAL, _length(_KEY, key.encode()) + _length(_VALUE, value.encode()))
    return pieces.content()


def _fields(wire: Wire, start: int, end: int) -> Iterator[tuple[int, Field]]:
    """Every field of a message that was walked before, and where its tag is."""
    while start < end:
        field = wire.field_at(start, end)
        yield start, field
        start = field.end


class _Pieces:
    """Bytes that are put together; what follows each other in the file is read at once."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._done: list[bytes] = []
        self._span: Span = (0, 0)

    def copy(self, start: int, end: int) -> None:
        if start != self._span[1]:
            self._read()
            self._span = (start, start)
        self._span = (self._span[0], end)

    def add(self, data: bytes) -> None:
        self._read()
        self._done.append(data)

    def message(self, tag: int, content: bytes) -> None:
        self.add(_length(tag, content))

    def content(self) -> bytes:
        self._read()
        return b"".join(self._done)

    def _read(self) -> None:
        start, end = self._span
        if start < end:
            self._done.append(self._file.data[start:end])
        self._span = (end, end)


def _length(tag: int, content: bytes) -> bytes:
    return _varint(tag) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    coded = bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)
