"""Requests that differ from one before in the bytes of their tensors only are not parsed again.

An application sends the same names, types and shapes with every frame. What comes before the
raw contents in the message is compared as a whole; what was learnt of it the first time, the
request held against its model included, is used again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError

from device_agent.serving.doors.answers import NOT_TOLD, varint
from device_agent.serving.doors.demanded import Demanded
from device_agent.serving.request import GivenTensor, Request
from edge_sdk.engines.contract import Array
from edge_sdk.protos import inference_v2_pb2 as pb

_SIZES_MAX = 64
_PER_SIZE_MAX = 8
_READY_MAX = 64  # as many threads answer
_RAW = bytes([7 << 3 | 2])  # ModelInferRequest.raw_input_contents


class _Raw:
    """One tensor's bytes inside of the message that is answered just now."""

    __slots__ = ("_begin", "_size_bytes", "wire")

    def __init__(self, begin: int, size_bytes: int) -> None:
        self._begin = begin
        self._size_bytes = size_bytes
        self.wire = b""

    def __len__(self) -> int:
        return self._size_bytes

    def read(self) -> bytes:
        return self.wire[self._begin : self._begin + self._size_bytes]

    def read_into(self, array: Array) -> None:
        given = np.frombuffer(self.wire, array.dtype, array.size, self._begin)
        np.copyto(array, given.reshape(array.shape))


class Ready:
    """A request to be run with the tensors of one message; used by one thread at a time."""

    __slots__ = ("kind", "raws", "request", "told")

    def __init__(self, kind: Kind, request: Request, raws: Sequence[_Raw]) -> None:
        self.kind = kind
        self.request = request
        self.raws = raws
        self.told = NOT_TOLD


class Kind:
    """All messages with one beginning and raw contents of the same sizes."""

    def __init__(self, message: pb.ModelInferRequest, beginning: bytes, demanded: Demanded) -> None:
        self.id = message.id
        self.model = message.model_name
        self.version = message.model_version
        self.wanted = [output.name for output in message.outputs]
        self.demanded = demanded
        self.beginning = beginning
        self.marks: list[tuple[int, bytes]] = []  # what must stand before each raw content
        self.ready: list[Ready] = []
        self._spans: list[tuple[int, int]] = []
        position = len(beginning)
        for raw in message.raw_input_contents:
            mark = _RAW + varint(len(raw))
            self.marks.append((position, mark))
            position += len(mark)
            self._spans.append((position, len(raw)))
            position += len(raw)

    def matches(self, wire: bytes) -> bool:
        """Whether a message of the right size is one of these."""
        if not wire.startswith(self.beginning):
            return False
        for position, mark in self.marks:  # noqa: SIM110 - a generator costs more
            if not wire.startswith(mark, position):
                return False
        return True

    def make(self, tensors: Sequence[GivenTensor]) -> Ready:
        """``tensors``: as they were parsed the first time; of their data only sizes count."""
        raws = [_Raw(begin, size_bytes) for begin, size_bytes in self._spans]
        inputs = [
            GivenTensor(name=one.name, dtype=one.dtype, shape=one.shape, data=raw)
            for one, raw in zip(tensors, raws, strict=True)
        ]
        request = Request(
            model=self.model,
            version=self.version,
            inputs=inputs,
            wanted=self.wanted,
            priority=self.demanded.priority,
        )
        return Ready(self, request, raws)


class RepeatedRequests:
    """The kinds of messages seen, by their size; any thread may ask."""

    def __init__(self) -> None:
        self._kinds: dict[int, tuple[Kind, ...]] = {}

    def take(self, wire: bytes) -> Ready | None:
        """What to run for a message; None: it must be parsed. ``give_back`` must follow."""
        for kind in self._kinds.get(len(wire), ()):
            if kind.matches(wire):
                try:
                    ready = kind.ready.pop()
                except IndexError:  # all are in use
                    return None
                for raw in ready.raws:
                    raw.wire = wire
                return ready
        return None

    def give_back(self, ready: Ready) -> None:
        for raw in ready.raws:
            raw.wire = b""
        ready.kind.ready.append(ready)

    def learn(
        self,
        wire: bytes,
        message: pb.ModelInferRequest,
        demanded: Demanded,
        tensors: Sequence[GivenTensor],
    ) -> None:
        """After a message was parsed and answered: others of its kind need not be."""
        for kind in self._kinds.get(len(wire), ()):
            if kind.matches(wire):
                if len(kind.ready) < _READY_MAX:
                    kind.ready.append(kind.make(tensors))
                return
        beginning = _beginning(wire, message)
        if beginning is None:
            return
        kind = Kind(message, beginning, demanded)
        kind.ready.append(kind.make(tensors))
        kinds = dict(self._kinds) if len(self._kinds) < _SIZES_MAX else {}
        kinds[len(wire)] = (kind, *kinds.get(len(wire), ()))[:_PER_SIZE_MAX]
        self._kinds = kinds


def _beginning(wire: bytes, message: pb.ModelInferRequest) -> bytes | None:
    """What comes before the raw contents where they are the message's end; else None.

    None too where a message of the kind cannot be told by its beginning: texts, tensors in
    shared memory, parts of a sequence.
    """
    raw = message.raw_input_contents
    if not raw or not all(raw) or len(raw) != len(message.inputs):
        return None
    if any(tensor.parameters or tensor.datatype == "BYTES" for tensor in message.inputs):
        return None
    if any(output.parameters for output in message.outputs) or "sequence_id" in message.parameters:
        return None
    size_bytes = sum(len(_RAW) + len(varint(len(one))) + len(one) for one in raw)
    beginning = wire[: max(len(wire) - size_bytes, 0)]
    # A beginning that is a message by itself, all but the raw contents: so what follows can be
    # nothing else than these.
    try:
        alone = pb.ModelInferRequest.FromString(beginning)
    except DecodeError:
        return None
    return beginning if alone == _without_raw(message) else None


def _without_raw(message: pb.ModelInferRequest) -> pb.ModelInferRequest:
    alone = pb.ModelInferRequest()
    alone.CopyFrom(message)
    alone.ClearField("raw_input_contents")
    return alone
