"""The app's end of the fast lane: connections to the agent on this machine, taken in turns.

Where there is no lane, or it cannot carry a request, the caller is told so and uses gRPC.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from edge_sdk.client.wire_tensors import decode_array, encode_array
from edge_sdk.fastlane import (
    PACKET_BYTES_MAX,
    VERSION,
    Answer,
    Elsewhere,
    Failure,
    Hello,
    Infer,
    Packet,
    Place,
    Resize,
    SlotGiven,
    Take,
    aligned,
    decode,
    encode,
    map_sealed,
    packets,
)

SLOT_BYTES_MIN = 64 << 10
_AGAIN_S = 1.0  # how long a lane that could not be used is left alone
_IDLE_MAX = 16
_WAIT_SLACK = 1.1  # a time limit may be kept that much later than asked, twice

Array = NDArray[Any]
_FAMILIES = (
    *(UsageError, NotFoundError, ConflictError, UnavailableError, RefusedError, ResourceError),
    *(TrustError, ProofError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneResult:
    """Outputs by name, in memory of their own, and the version that computed them."""

    outputs: Mapping[str, Array]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneInput:
    """``dtype``: the signature's name; text as an object array."""

    name: str
    dtype: str
    array: Array


class NotOnLaneError(Exception):
    """The fast lane is not there or cannot carry this request: gRPC may. Never leaves the room."""


class Lanes:
    """Connections to one agent: as many as requests at the same time. For any threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[Lane] = []
        self._closed_until_s = 0.0
        self._process = os.getpid()
        self._closed = False

    def infer(
        self,
        model: str,
        version: str,
        inputs: Sequence[LaneInput],
        *,
        outputs: Sequence[str],
        deadline_s: float,
    ) -> LaneResult:
        """Raises: NotOnLaneError (use gRPC), and what the agent answered."""
        end_s = time.monotonic() + deadline_s
        while True:
            lane, fresh = self._take(end_s)
            try:
                result = lane.infer(model, version, inputs, outputs=outputs, end_s=end_s)
            except _GoneBeforeError:
                lane.close()
                if fresh:
                    raise NotOnLaneError("the fast lane closed") from None
                continue  # this connection was to an agent that has ended since
            except NotOnLaneError:
                lane.close()
                raise
            except EdgeError:
                self._give_back(lane)
                raise
            except BaseException:
                lane.close()  # an answer may still come, and would be taken for the next one's
                raise
            self._give_back(lane)
            return result

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for lane in idle:
            lane.close()

    def _take(self, end_s: float) -> tuple[Lane, bool]:
        """A connection, and whether it was made now. Raises: NotOnLaneError."""
        with self._lock:
            if self._process != os.getpid():
                # After a fork the parent's connections are the parent's.
                self._process, foreign, self._idle = os.getpid(), self._idle, []
                for lane in foreign:
                    lane.close()
            if self._idle:
                return self._idle.pop(), False
            if time.monotonic() < self._closed_until_s:
                raise NotOnLaneError("the fast lane was closed a moment ago")
        try:
            return Lane(self._path, end_s=end_s), True
        except NotOnLaneError:
            with self._lock:
                self._closed_until_s = time.monotonic() + _AGAIN_S
            raise

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            if lane.usable and not self._closed and len(self._idle) < _IDLE_MAX:
                self._idle.append(lane)
                return
        lane.close()


class _GoneBeforeError(Exception):
    """The agent had closed the connection before the request could be sent."""


class Lane:
    """One connection and its slot, for one request at a time."""

    def __init__(self, path: Path, *, end_s: float) -> None:
        """Raises: NotOnLaneError."""
        self._memory: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._request = 0
        self._buffer = bytearray(PACKET_BYTES_MAX + 1)
        self._sent_key: object = None
        self._sent_tail = b""
        self._sent_places: tuple[Place, ...] = ()
        self._answer_tail = b""
        self._answer: Answer | None = None
        self._waits_s = -1.0
        self.usable = True
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._set_wait(end_s)
            self._socket.connect(str(path))
            self._ask_slot(Hello(version=VERSION, slot_bytes=SLOT_BYTES_MIN))
        except (OSError, _GoneBeforeError, FormatError) as error:
            self.close()
            raise NotOnLaneError(f"no fast lane at {path}: {error}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.usable = False
        self._socket.close()
        self._drop_memory()

    def infer(
        self,
        model: str,
        version: str,
        inputs: Sequence[LaneInput],
        *,
        outputs: Sequence[str],
        end_s: float,
    ) -> LaneResult:
        """Raises: NotOnLaneError, _GoneBeforeError, and what the agent answered.

        Any error but the agent's own leaves the connection unusable.
        """
        try:
            self._put(model, version, inputs, outputs, end_s)
            answer = self._exchange(end_s)
        except (UnavailableError, FormatError, OSError) as error:
            self.usable = False
            raise _typed(error) from None
        if isinstance(answer, Failure):
            raise _error(answer)
        try:
            return self._outputs(answer)
        except (FormatError, OSError) as error:
            self.usable = False
            raise _typed(error) from None

    def _put(
        self,
        model: str,
        version: str,
        inputs: Sequence[LaneInput],
        outputs: Sequence[str],
        end_s: float,
    ) -> None:
        """Lays the inputs into the slot and makes the packet's tail, if it is another one."""
        texts = {one.name: encode_array(one.array) for one in inputs if one.dtype == "string"}
        key = (
            *(model, version, tuple(outputs)),
            *((one.name, one.dtype, one.array.shape) for one in inputs),
            *((name, len(text)) for name, text in texts.items()),
        )
        if key != self._sent_key:
            self._sent_places = _places(inputs, texts)
            whole = Infer(
                model=model, version=version, inputs=self._sent_places, outputs=tuple(outputs)
            )
            try:
                self._sent_tail = encode(whole)[packets.INFER_TAIL_BEGIN :]
            except FormatError as error:
                raise NotOnLaneError(error.message) from None
            self._sent_key = key
        end = max((one.offset + one.size_bytes for one in self._sent_places), default=0)
        if end > len(self._view):
            self._set_wait(end_s)
            self._ask_slot(Resize(slot_bytes=end))
        for place, one in zip(self._sent_places, inputs, strict=True):
            view = self._view[place.offset : place.offset + place.size_bytes]
            if one.dtype == "string":
                view[:] = texts[one.name]
            else:
                kind = np.dtype("uint16") if one.dtype == "bfloat16" else np.dtype(one.dtype)
                array = one.array.view(kind) if one.dtype == "bfloat16" else one.array
                np.copyto(np.frombuffer(view, kind).reshape(place.shape), array)

    def _exchange(self, end_s: float) -> Answer | Failure:
        """Raises: NotOnLaneError, UnavailableError, FormatError, _GoneBeforeError, OSError."""
        self._request = (self._request + 1) & packets.REQUEST_MAX
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise UnavailableError("the agent did not answer in time")
        self._set_wait(end_s)
        head = packets.INFER_BEGIN.pack(
            packets.INFER_KIND, 0, 0, self._request, max(1, int(left_s * 1e6)), 0
        )
        self._push(head + self._sent_tail)
        size = self._pull()
        kind, zero, zeros, request = packets.HEADER.unpack_from(self._buffer)
        tail = bytes(self._buffer[packets.ANSWER_TAIL_BEGIN : size])
        known = self._answer
        same = tail == self._answer_tail and size > packets.HEADER.size
        if known is not None and same and (kind, zero, zeros) == (packets.ANSWER_KIND, 0, 0):
            if request != self._request:
                raise FormatError("the agent answered another request")
            return known
        packet = decode(bytes(self._buffer[:size]))
        if packet.request != self._request:
            raise FormatError("the agent answered another request")
        if isinstance(packet, Answer):
            self._answer, self._answer_tail = packet, tail
            if packet.new_slot_bytes:
                self._answer, self._answer_tail = None, b""
                self._ask_slot(Take())
            return packet
        if isinstance(packet, Failure):
            return packet
        if isinstance(packet, Elsewhere):
            raise NotOnLaneError(packet.message)
        raise FormatError(f"the agent answered with {type(packet).__name__}")

    def _outputs(self, answer: Answer) -> LaneResult:
        """Copies of the outputs. Raises: FormatError where one does not lie in the slot."""
        outputs = {}
        for place in answer.outputs:
            end = place.offset + place.size_bytes
            if end > len(self._view):
                raise FormatError(f"output {place.name!r} ends beyond the slot")
            view = self._view[place.offset : end]
            if place.dtype == "string":
                outputs[place.name] = decode_array("BYTES", place.shape, bytes(view))
            else:
                kind = "uint16" if place.dtype == "bfloat16" else place.dtype
                outputs[place.name] = np.frombuffer(view, kind).reshape(place.shape).copy()
        return LaneResult(outputs=outputs, version=answer.version)

    def _ask_slot(self, wanted: Hello | Resize | Take) -> None:
        """Raises: NotOnLaneError, FormatError, OSError, _GoneBeforeError."""
        self._drop_memory()
        self._push(encode(wanted))
        data, descriptors, _, _ = socket.recv_fds(self._socket, PACKET_BYTES_MAX, 4)
        try:
            packet: Packet = decode(data) if data else Elsewhere(message="it closed at once")
            if isinstance(packet, Elsewhere):
                raise NotOnLaneError(packet.message)
            if not isinstance(packet, SlotGiven) or len(descriptors) != 1:
                raise FormatError(f"expected a slot, got {type(packet).__name__}")
            self._memory = map_sealed(descriptors[0], packet.slot_bytes)
            self._view = memoryview(self._memory)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _push(self, packet: bytes) -> None:
        try:
            self._socket.send(packet)
        except (BrokenPipeError, ConnectionResetError):
            raise _GoneBeforeError from None

    def _pull(self) -> int:
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            raise UnavailableError("the agent did not answer in time") from None
        if not size:
            raise UnavailableError("the agent ended before it answered")
        return size

    def _set_wait(self, end_s: float) -> None:
        """The kernel's own time limit: one with Python's costs another call each time."""
        wait_s = max(0.001, end_s - time.monotonic())
        # Somewhat later than asked is near enough, and saves two calls for each request.
        if not wait_s <= self._waits_s <= _WAIT_SLACK * _WAIT_SLACK * wait_s:
            self._waits_s = _WAIT_SLACK * wait_s
            whole, part = divmod(min(self._waits_s, 1 << 30), 1)
            limit = struct.pack("@ll", int(whole), int(part * 1e6))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, limit)

    def _drop_memory(self) -> None:
        self._view = memoryview(b"")
        if self._memory is not None:
            with contextlib.suppress(BufferError):
                self._memory.close()
            self._memory = None


def _places(inputs: Sequence[LaneInput], texts: Mapping[str, bytes]) -> tuple[Place, ...]:
    places: list[Place] = []
    end = 0
    for one in inputs:
        text = texts.get(one.name)
        places.append(
            Place(
                name=one.name,
                dtype=one.dtype,
                shape=one.array.shape,
                offset=aligned(end),
                size_bytes=one.array.nbytes if text is None else len(text),
            )
        )
        end = places[-1].offset + places[-1].size_bytes
    return tuple(places)


def _typed(error: Exception) -> EdgeError:
    if isinstance(error, EdgeError):
        return error if isinstance(error, UnavailableError) else UnavailableError(str(error))
    return UnavailableError(f"the fast lane broke: {error}")


def _error(failure: Failure) -> EdgeError:
    """The error that the agent named; of a class not known here, its family by the status."""
    family = next((one for one in _FAMILIES if one.grpc_status == failure.status), EdgeError)
    return error_classes().get(failure.reason, family)(failure.message, **failure.facts)
