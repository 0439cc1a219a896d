"""The packets of the fast lane, to and from values. Pure; normative text: PROTOCOL.md.

Every packet has one valid encoding. Nothing here is as large as a number in a packet says
before that number was held against the packet's own length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_sdk.base.errors import FormatError

VERSION = 1
PACKET_BYTES_MAX = 16384
RANK_MAX = 32  # of NumPy 1
REQUEST_MAX = 2**32 - 1
TIMEOUT_US_MAX = 2**63 - 1
SEQUENCE_MAX = 2**63 - 1
PRIORITY_MAX = 3
SIZE_MAX = 2**63 - 1

# Types of tensors: their number here (that of the Open Inference Protocol) and bytes an element
# takes; 0: elements of any length.
DTYPE_CODES = {
    "bool": (1, 1),
    "uint8": (2, 1),
    "uint16": (3, 2),
    "uint32": (4, 4),
    "uint64": (5, 8),
    "int8": (6, 1),
    "int16": (7, 2),
    "int32": (8, 4),
    "int64": (9, 8),
    "float16": (10, 2),
    "float32": (11, 4),
    "float64": (12, 8),
    "string": (13, 0),
    "bfloat16": (14, 2),
}
_POINTER_BYTES = 8  # what any element takes at most where it is used
_DTYPES = {code: (name, size) for name, (code, size) in DTYPE_CODES.items()}

_HELLO, _RESIZE, _INFER, _TAKE = 1, 2, 3, 4
_SLOT, _ANSWER, _FAILURE, _ELSEWHERE = 129, 130, 131, 132

HEADER = struct.Struct("<BBHI")
_HELLO_BODY = struct.Struct("<IHHQ")
_SIZE_BODY = struct.Struct("<Q")
_INFER_BODY = struct.Struct("<QQHHHH")
_ANSWER_BODY = struct.Struct("<QHHHH")
_FAILURE_BODY = struct.Struct("<HHHH")
_ELSEWHERE_BODY = struct.Struct("<HHI")
_TENSOR = struct.Struct("<BBHIQQ")
_LENGTH = struct.Struct("<H")
_PAIR = struct.Struct("<HH")
_MAGIC = int.from_bytes(b"EDGL", "little")

# What differs from one request to the next: kind, priority, flags, number, time limit, sequence.
# The rest of a request comes behind it.
INFER_BEGIN = struct.Struct("<BBHIQQ")
INFER_TAIL_BEGIN = INFER_BEGIN.size
SEQUENCE_START, SEQUENCE_END = 1, 2  # the flags
INFER_KIND, ANSWER_KIND = _INFER, _ANSWER
ANSWER_TAIL_BEGIN = HEADER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tensor in a slot: ``size_bytes`` bytes from ``offset``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The client's first packet; ``slot_bytes``: how large it wants its slot."""

    version: int
    slot_bytes: int
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """The client wants another slot, of at least this size, instead of the one it has."""

    slot_bytes: int
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """One request. ``version`` empty: the active one; ``outputs`` empty: all of them.

    ``priority``: 1 high, 2 medium, 3 low, 0 the model's own. ``sequence`` 0: of none.
    """

    model: str
    version: str
    inputs: tuple[Place, ...]
    outputs: tuple[str, ...] = ()
    timeout_us: int = 0  # how long it may wait for its turn; 0: no limit
    priority: int = 0
    sequence: int = 0
    sequence_start: bool = False
    sequence_end: bool = False
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """The client asks for the slot that an answer said is a new one."""

    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotGiven:
    """The agent gives a slot: its descriptor comes with this packet."""

    slot_bytes: int
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Outputs in the slot; ``new_slot_bytes`` not 0: in a new one of that size, see Take."""

    version: str
    outputs: tuple[Place, ...]
    new_slot_bytes: int = 0
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A typed error: the name of its class, of its gRPC status, its message and facts."""

    reason: str
    status: str
    message: str
    facts: Mapping[str, str] = field(default_factory=dict)
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The lane cannot carry this; the inference protocol's own door may."""

    message: str
    request: int = 0


Packet = Hello | Resize | Infer | Take | SlotGiven | Answer | Failure | Elsewhere


def encode(packet: Packet) -> bytes:
    """Raises: FormatError where a value does not fit a packet."""
    kind, body = _BODIES[type(packet)](packet)
    priority, flags = _begin(packet) if isinstance(packet, Infer) else (0, 0)
    encoded = HEADER.pack(kind, priority, flags, packet.request) + body
    if len(encoded) > PACKET_BYTES_MAX:
        raise FormatError(f"{len(encoded)} bytes do not fit a packet of {PACKET_BYTES_MAX}")
    return encoded


def decode(data: bytes) -> Packet:
    """One whole packet. Raises: FormatError, for everything that ``encode`` would not make."""
    if len(data) > PACKET_BYTES_MAX:
        raise FormatError(f"a packet is longer than {PACKET_BYTES_MAX} bytes")
    reader = _Reader(data)
    kind, priority, flags, request = reader.take(HEADER)
    packet: Packet
    if kind == _INFER:
        packet = _read_infer(reader, request, priority, flags)
    elif priority or flags:
        raise FormatError("a packet's reserved bytes are not zero")
    elif kind in _READERS:
        packet = _READERS[kind](reader, request)
    else:
        raise FormatError(f"a packet of kind {kind} is not known")
    reader.finish()
    return packet


class _Reader:
    """Takes a packet apart from its begin to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self._bytes(layout.size))

    def text(self, length: int) -> str:
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError:
            raise FormatError(f"a text before byte {self._at} is not UTF-8") from None

    def finish(self) -> None:
        if self._at != len(self._data):
            raise FormatError(f"a packet ends at byte {self._at} and has {len(self._data)}")

    def _bytes(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise FormatError(f"a packet of {len(self._data)} bytes is cut off at {self._at}")
        taken = self._data[self._at : end]
        self._at = end
        return taken


def _text(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise FormatError(f"{text!r} is not text") from None
    if len(data) > PACKET_BYTES_MAX:
        raise FormatError(f"a text of {len(data)} bytes does not fit a packet")
    return data


def _size(number: int) -> int:
    if not 0 <= number <= SIZE_MAX:
        raise FormatError(f"{number} is no size")
    return number


def _hello(packet: Hello) -> tuple[int, bytes]:
    return _HELLO, _HELLO_BODY.pack(_MAGIC, packet.version, 0, _size(packet.slot_bytes))


def _read_hello(reader: _Reader, request: int) -> Hello:
    magic, version, zero, slot_bytes = reader.take(_HELLO_BODY)
    if magic != _MAGIC or zero:
        raise FormatError("the first packet is not the fast lane's")
    return Hello(version=version, slot_bytes=_size(slot_bytes), request=request)


def _resize(packet: Resize) -> tuple[int, bytes]:
    return _RESIZE, _SIZE_BODY.pack(_size(packet.slot_bytes))


def _read_resize(reader: _Reader, request: int) -> Resize:
    return Resize(slot_bytes=_size(*reader.take(_SIZE_BODY)), request=request)


def _take(packet: Take) -> tuple[int, bytes]:
    return _TAKE, b""


def _read_take(reader: _Reader, request: int) -> Take:
    return Take(request=request)


def _slot(packet: SlotGiven) -> tuple[int, bytes]:
    return _SLOT, _SIZE_BODY.pack(_size(packet.slot_bytes))


def _read_slot(reader: _Reader, request: int) -> SlotGiven:
    return SlotGiven(slot_bytes=_size(*reader.take(_SIZE_BODY)), request=request)


def _begin(packet: Infer) -> tuple[int, int]:
    """Priority and flags, which lie in the header."""
    flags = SEQUENCE_START * packet.sequence_start | SEQUENCE_END * packet.sequence_end
    _check_begin(packet.priority, flags, packet.sequence)
    return packet.priority, flags


def _check_begin(priority: int, flags: int, sequence: int) -> None:
    """Raises: FormatError."""
    if not 0 <= priority <= PRIORITY_MAX:
        raise FormatError(f"priority {priority} is none of 0 to {PRIORITY_MAX}")
    if flags & ~(SEQUENCE_START | SEQUENCE_END):
        raise FormatError(f"flags {flags:#x} of a request are not known")
    if flags and not sequence:
        raise FormatError("a request begins or ends a sequence without being of one")
    if not 0 <= sequence <= SEQUENCE_MAX:
        raise FormatError(f"{sequence} is no sequence's number")


def _infer(packet: Infer) -> tuple[int, bytes]:
    model, version = _text(packet.model), _text(packet.version)
    counts = (len(packet.inputs), len(packet.outputs))
    if max(counts) > PACKET_BYTES_MAX:
        raise FormatError(f"{max(counts)} tensors do not fit a packet")
    parts = [
        _INFER_BODY.pack(
            _size(packet.timeout_us), packet.sequence, len(model), len(version), *counts
        ),
        model,
        version,
    ]
    parts += [_place(one) for one in packet.inputs]
    for name in map(_text, packet.outputs):
        parts += [_LENGTH.pack(len(name)), name]
    return _INFER, b"".join(parts)


def _read_infer(reader: _Reader, request: int, priority: int, flags: int) -> Infer:
    timeout_us, sequence, model, version, inputs, outputs = reader.take(_INFER_BODY)
    _check_begin(priority, flags, sequence)
    return Infer(
        model=reader.text(model),
        version=reader.text(version),
        inputs=tuple(_read_place(reader) for _ in range(inputs)),
        outputs=tuple(reader.text(*reader.take(_LENGTH)) for _ in range(outputs)),
        timeout_us=_size(timeout_us),
        priority=priority,
        sequence=sequence,
        sequence_start=bool(flags & SEQUENCE_START),
        sequence_end=bool(flags & SEQUENCE_END),
        request=request,
    )


def _answer(packet: Answer) -> tuple[int, bytes]:
    version = _text(packet.version)
    if len(packet.outputs) > PACKET_BYTES_MAX:
        raise FormatError(f"{len(packet.outputs)} tensors do not fit a packet")
    begin = _ANSWER_BODY.pack(_size(packet.new_slot_bytes), len(version), len(packet.outputs), 0, 0)
    return _ANSWER, b"".join([begin, version, *map(_place, packet.outputs)])


def _read_answer(reader: _Reader, request: int) -> Answer:
    new_slot_bytes, version, outputs, zero, zeros = reader.take(_ANSWER_BODY)
    if zero or zeros:
        raise FormatError("an answer's reserved bytes are not zero")
    return Answer(
        version=reader.text(version),
        outputs=tuple(_read_place(reader) for _ in range(outputs)),
        new_slot_bytes=_size(new_slot_bytes),
        request=request,
    )


def _place(place: Place) -> bytes:
    if place.dtype not in DTYPE_CODES:
        raise FormatError(f"tensor {place.name!r} is {place.dtype!r}, which no packet carries")
    _check_place(place)
    name, rank = _text(place.name), len(place.shape)
    code = DTYPE_CODES[place.dtype][0]
    return b"".join(
        [
            _TENSOR.pack(code, rank, len(name), 0, place.offset, place.size_bytes),
            struct.pack(f"<{rank}Q", *place.shape),
            name,
        ]
    )


def _read_place(reader: _Reader) -> Place:
    code, rank, name, zero, offset, size_bytes = reader.take(_TENSOR)
    if code not in _DTYPES or zero or rank > RANK_MAX:
        raise FormatError(f"a tensor of type {code} and {rank} dimensions is not known")
    shape = reader.take(struct.Struct(f"<{rank}Q"))
    place = Place(
        name=reader.text(name),
        dtype=_DTYPES[code][0],
        shape=shape,
        offset=offset,
        size_bytes=size_bytes,
    )
    _check_place(place)
    return place


def _check_place(place: Place) -> None:
    """Raises: FormatError where bytes and shape disagree, or the begin is not aligned."""
    if len(place.shape) > RANK_MAX:
        raise FormatError(f"tensor {place.name!r} has {len(place.shape)} dimensions")
    count = whole = 1
    for size in place.shape:
        count *= _size(size)
        whole *= size or 1
    element_bytes = DTYPE_CODES[place.dtype][1]
    if whole * _POINTER_BYTES > SIZE_MAX:  # also where another size is 0
        raise FormatError(f"tensor {place.name!r} has a shape that no memory holds")
    if element_bytes and count * element_bytes != place.size_bytes:
        raise FormatError(
            f"unexpected total byte size {place.size_bytes} for tensor {place.name!r}, expecting "
            f"{count * element_bytes}"
        )
    if _size(place.offset) % 64 or _size(place.size_bytes) + place.offset > SIZE_MAX:
        raise FormatError(f"tensor {place.name!r} cannot begin at byte {place.offset}")


def _failure(packet: Failure) -> tuple[int, bytes]:
    reason, status, message = map(_text, (packet.reason, packet.status, packet.message))
    parts = [
        _FAILURE_BODY.pack(len(reason), len(status), len(message), len(packet.facts)),
        *(reason, status, message),
    ]
    for pair in packet.facts.items():
        key, value = map(_text, pair)
        parts += [_PAIR.pack(len(key), len(value)), key, value]
    return _FAILURE, b"".join(parts)


def _read_failure(reader: _Reader, request: int) -> Failure:
    reason, status, message, count = reader.take(_FAILURE_BODY)
    failure = Failure(
        reason=reader.text(reason),
        status=reader.text(status),
        message=reader.text(message),
        facts=dict(_read_fact(reader) for _ in range(count)),
        request=request,
    )
    if len(failure.facts) != count:
        raise FormatError("a fact is given twice")
    return failure


def _read_fact(reader: _Reader) -> tuple[str, str]:
    key, value = reader.take(_PAIR)
    return reader.text(key), reader.text(value)


def _elsewhere(packet: Elsewhere) -> tuple[int, bytes]:
    message = _text(packet.message)
    return _ELSEWHERE, _ELSEWHERE_BODY.pack(len(message), 0, 0) + message


def _read_elsewhere(reader: _Reader, request: int) -> Elsewhere:
    length, zero, zeros = reader.take(_ELSEWHERE_BODY)
    if zero or zeros:
        raise FormatError("a packet's reserved bytes are not zero")
    return Elsewhere(message=reader.text(length), request=request)


_BODIES: dict[type[Packet], Callable[[Any], tuple[int, bytes]]] = {
    Hello: _hello,
    Resize: _resize,
    Infer: _infer,
    Take: _take,
    SlotGiven: _slot,
    Answer: _answer,
    Failure: _failure,
    Elsewhere: _elsewhere,
}
_READERS: dict[int, Callable[[_Reader, int], Packet]] = {
    _HELLO: _read_hello,
    _RESIZE: _read_resize,
    _TAKE: _read_take,
    _SLOT: _read_slot,
    _ANSWER: _read_answer,
    _FAILURE: _read_failure,
    _ELSEWHERE: _read_elsewhere,
}
