"""One connection to the agent's fast lane, with its slot of shared memory."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sdk.base import (
    ConflictError,
    EdgeError,
    FormatError,
    NotFoundError,
    ProofError,
    RefusedError,
    ResourceError,
    TrustError,
    UnavailableError,
    UsageError,
    error_classes,
)
from edge_sdk.client.lane_request import Key, LaneInput, LaneRequest, What, key_of, places_of
from edge_sdk.client.result import Result, SequenceStep
from edge_sdk.client.wire_tensors import encode_array
from edge_sdk.fastlane import channel_over, map_sealed, packets

SLOT_BYTES_MIN = 64 << 10
_REQUESTS_MAX = 16  # kept ready in one connection
_WAIT_SLACK = 1.1  # a time limit may be kept that much later than asked, twice

# Looked up once: between two requests the agent's work has driven all this out of the caches, and
# each step costs several times what it does in a loop.
_NUMBER_AT, _NUMBER_MAX = 4, packets.REQUEST_MAX
_PUT_NUMBER = struct.Struct("<I").pack_into
_ANSWER, _ANSWER_TAIL = packets.ANSWER_KIND, packets.ANSWER_TAIL_BEGIN
_ANSWER_BEGIN = struct.Struct("<II").unpack_from  # the kind with three zeros, and the number
_FAMILIES = (
    *(UsageError, NotFoundError, ConflictError, UnavailableError, RefusedError, ResourceError),
    *(TrustError, ProofError),
)


class NotOnLaneError(Exception):
    """The fast lane is not there or cannot carry this request: gRPC may. Never leaves the room."""


class GoneBeforeError(Exception):
    """The agent had closed the connection before the request could be sent. As above."""


class Lane:
    """For one request at a time. ``usable`` False: it must be closed."""

    def __init__(self, path: Path, *, end_s: float) -> None:
        """Raises: NotOnLaneError."""
        self._memory: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._number = 0
        self._buffer = bytearray(packets.PACKET_BYTES_MAX + 1)
        self._requests: dict[Key, LaneRequest] = {}
        self._last: LaneRequest | None = None
        self._deadline_s = 0.0
        self._timeout_us = 0
        self._waits_s = -1.0
        self.usable = True
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = channel_over(self._socket, waits=True)
        self._exchange = self._channel.exchange
        try:
            self._wait_until(end_s)
            self._socket.connect(str(path))
            self._ask_slot(packets.Hello(version=packets.VERSION, slot_bytes=SLOT_BYTES_MIN))
        except (OSError, GoneBeforeError, FormatError) as error:
            self.close()
            raise NotOnLaneError(f"no fast lane at {path}: {error}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.usable = False
        self._channel.close()
        self._socket.close()
        self._drop_memory()

    def repeat(
        self,
        what: What,
        inputs: Mapping[str, Any],
        deadline_s: float,
        priority: int,
        sequence: SequenceStep | None,
    ) -> Result | None:
        """A request like one before it: the same model, version and outputs (``what``), and
        inputs of the same names, shapes and types. None: there was none.

        Raises: as ``infer``.
        """
        request = self._last
        if request is None or request.what != what or not request.fits(inputs):
            key = key_of(what, inputs)
            request = self._requests.get(key) if key is not None else None
            if request is None or not request.fits(inputs):
                return None
            self._last = request
        self.exchange(request, deadline_s, priority, sequence)
        return request.result()

    def infer(
        self,
        what: What,
        given: Sequence[LaneInput],
        *,
        end_s: float,
        priority: int = 0,
        sequence: SequenceStep | None = None,
    ) -> Result:
        """Raises: NotOnLaneError, GoneBeforeError, UnavailableError, and what the agent answered.

        Any error but the agent's own leaves the connection unusable.
        """
        try:
            request = self._lay(what, given, end_s)
        except (FormatError, OSError) as error:
            self.usable = False
            raise _typed(error) from None
        self.exchange(request, end_s - time.monotonic(), priority, sequence)
        return request.result()

    def _lay(self, what: What, given: Sequence[LaneInput], end_s: float) -> LaneRequest:
        """Puts the inputs into the slot; the request is new where there was none like it."""
        texts = {one.name: encode_array(one.array) for one in given if one.dtype == "string"}
        inputs = {one.name: one.array for one in given}
        key = key_of(what, inputs)
        request = self._requests.get(key) if key is not None and not texts else None
        if request is None or request.dtypes != tuple(one.dtype for one in given):
            places = places_of(given, texts, begin=0)
            self._wait_until(end_s)
            request = self.make(what, given, places)
            for place in places:
                if place.dtype == "string":
                    end = place.offset + place.size_bytes
                    self._view[place.offset : end] = texts[place.name]
            if key is not None and not texts:
                while len(self._requests) >= _REQUESTS_MAX:
                    del self._requests[next(iter(self._requests))]
                self._requests[key] = self._last = request
        request.lay(inputs)
        return request

    def make(
        self, what: What, given: Sequence[LaneInput], places: tuple[packets.Place, ...]
    ) -> LaneRequest:
        """A request with inputs at these places; the slot grows to hold them.

        Raises: NotOnLaneError (no packet or no slot can carry it), GoneBeforeError, FormatError,
        OSError.
        """
        model, version, outputs = what
        try:
            packet = packets.encode(
                packets.Infer(model=model, version=version, inputs=places, outputs=outputs)
            )
        except FormatError as error:
            raise NotOnLaneError(error.message) from None
        end = max((one.offset + one.size_bytes for one in places), default=0)
        if end > len(self._view):
            self._ask_slot(packets.Resize(slot_bytes=end))
        return LaneRequest(what, packet, self._view, given, places)

    def exchange(
        self, request: LaneRequest, deadline_s: float, priority: int, sequence: SequenceStep | None
    ) -> None:
        """Sends a request whose inputs lie in the slot; its outputs are there afterwards.

        Raises: as ``infer``.
        """
        if deadline_s != request.deadline_s or priority != request.priority or sequence is not None:
            self._begin(request, deadline_s, priority, sequence)
        self._number = number = (self._number + 1) & _NUMBER_MAX
        _PUT_NUMBER(request.packet, _NUMBER_AT, number)
        try:
            buffer = self._buffer
            try:
                size = self._exchange(request.packet, buffer)
            except BrokenPipeError:
                raise GoneBeforeError from None
            if (
                size == request.answer_bytes
                and buffer.startswith(request.answer_tail, _ANSWER_TAIL)
                and _ANSWER_BEGIN(buffer) == (_ANSWER, number)
            ):
                return  # as the one before, byte for byte
            failure = self._read(request, size, number)
        except (FormatError, OSError) as error:
            self.usable = False
            raise _typed(error) from None
        if failure is not None:
            if failure.reason == UsageError.__name__:
                # The model may take other types since these were made.
                self._requests.clear()
                self._last = None
            raise _error(failure)

    def _begin(
        self, request: LaneRequest, deadline_s: float, priority: int, sequence: SequenceStep | None
    ) -> None:
        """Writes what goes with the request beside its number. Raises: UnavailableError."""
        if deadline_s != self._deadline_s:
            self._set_deadline(deadline_s)
        flags, step = (0, 0) if sequence is None else _step(sequence)
        begin = (packets.INFER_KIND, priority, flags, 0, self._timeout_us, step)
        packets.INFER_BEGIN.pack_into(request.packet, 0, *begin)
        # A step of a sequence is for this one request alone.
        request.deadline_s = deadline_s if sequence is None else math.nan
        request.priority = priority

    def _read(self, request: LaneRequest, size: int, number: int) -> packets.Failure | None:
        """Raises: NotOnLaneError, FormatError, OSError."""
        if not size:
            raise OSError("the agent ended before it answered")
        data = bytes(self._buffer[:size])
        packet = packets.decode(data)
        if packet.request != number:
            raise FormatError("the agent answered another request")
        if isinstance(packet, packets.Answer):
            if packet.new_slot_bytes:
                self._ask_slot(packets.Take())
            request.learn(packet, data[packets.ANSWER_TAIL_BEGIN :], self._view)
            return None
        if isinstance(packet, packets.Failure):
            return packet
        if isinstance(packet, packets.Elsewhere):
            raise NotOnLaneError(packet.message)
        raise FormatError(f"the agent answered with {type(packet).__name__}")

    def _ask_slot(self, wanted: packets.Hello | packets.Resize | packets.Take) -> None:
        """Raises: NotOnLaneError, FormatError, OSError, GoneBeforeError."""
        self._drop_memory()
        try:
            self._socket.send(packets.encode(wanted))
        except (BrokenPipeError, ConnectionResetError):
            raise GoneBeforeError from None
        data, descriptors, _, _ = socket.recv_fds(self._socket, packets.PACKET_BYTES_MAX, 4)
        try:
            if not data:
                raise NotOnLaneError("it closed at once")
            packet = packets.decode(data)
            if isinstance(packet, packets.Elsewhere):
                raise NotOnLaneError(packet.message)
            if not isinstance(packet, packets.SlotGiven) or len(descriptors) != 1:
                raise FormatError(f"expected a slot, got {type(packet).__name__}")
            self._memory = map_sealed(descriptors[0], packet.slot_bytes)
            self._view = memoryview(self._memory)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _set_deadline(self, deadline_s: float) -> None:
        """For the next requests. Raises: UnavailableError (it is over)."""
        if not deadline_s > 0:
            raise UnavailableError("the agent did not answer in time")
        self._set_wait(deadline_s)
        self._timeout_us = min(packets.TIMEOUT_US_MAX, max(1, int(deadline_s * 1e6)))
        self._deadline_s = deadline_s

    def _wait_until(self, end_s: float) -> None:
        self._set_wait(max(0.001, end_s - time.monotonic()))

    def _set_wait(self, wait_s: float) -> None:
        """The kernel's own time limit: one with Python's costs another call each time."""
        # Somewhat later than asked is near enough, and saves two calls for many requests.
        if not wait_s <= self._waits_s <= _WAIT_SLACK * _WAIT_SLACK * wait_s:
            self._waits_s = _WAIT_SLACK * wait_s
            whole, part = divmod(min(self._waits_s, 1 << 30), 1)
            limit = struct.pack("@ll", int(whole), max(1, int(part * 1e6)))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, limit)

    def _drop_memory(self) -> None:
        self._view = memoryview(b"")
        self._last = None
        self._requests.clear()
        if self._memory is not None:
            with contextlib.suppress(BufferError):  # the app holds views: unmapped when they go
                self._memory.close()
            self._memory = None


def _step(sequence: SequenceStep) -> tuple[int, int]:
    """Flags and number."""
    assert isinstance(sequence.id, int)  # others go by gRPC
    flags = packets.SEQUENCE_START * sequence.start | packets.SEQUENCE_END * sequence.end
    return flags, sequence.id


def _typed(error: Exception) -> EdgeError:
    if isinstance(error, BlockingIOError):
        return UnavailableError("the agent did not answer in time")
    text = error.message if isinstance(error, EdgeError) else str(error)
    return UnavailableError(f"the fast lane broke: {text}")


def _error(failure: packets.Failure) -> EdgeError:
    """The error that the agent named; of a class not known here, its family by the status."""
    family = next((one for one in _FAMILIES if one.grpc_status == failure.status), EdgeError)
    return error_classes().get(failure.reason, family)(failure.message, **failure.facts)
