"""One app's connection on the fast lane: a thread, a slot, one request after the other."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from device_agent.serving.answer import Answer
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.doors.lane_plan import (
    Plan,
    answer_packet,
    array_of,
    parts_of,
    places_for,
)
from edge_sdk.base import EdgeError, FormatError, ResourceError
from edge_sdk.fastlane import (
    PACKET_BYTES_MAX,
    VERSION,
    Elsewhere,
    Failure,
    Hello,
    Infer,
    Packet,
    Resize,
    SlotGiven,
    Take,
    channel_over,
    decode,
    encode,
    packets,
)
from edge_sdk.tensor_pool import SealedSlab, TensorPool

SLOT_BYTES_MAX = 64 << 20  # what one message of the other door may have
_SLOT_STEP_BYTES = 64 << 10
_HELLO_S = 10  # for the first packet; between requests an app may be as silent as it likes
_TEXT_MAX = 4096
_DEFECT = Failure(
    reason="EdgeError", status="INTERNAL", message="the peer failed in a way it did not expect"
)


class LaneSlots:
    """Shared memory for all connections together, within one limit."""

    def __init__(self, pool: TensorPool, *, bytes_max: int) -> None:
        self._pool = pool
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._bytes = 0

    def take(self, size_bytes: int) -> SealedSlab:
        """A slot of at least that size. Raises: ResourceError."""
        whole_bytes = max(1, -(-size_bytes // _SLOT_STEP_BYTES)) * _SLOT_STEP_BYTES
        if whole_bytes > SLOT_BYTES_MAX:
            raise ResourceError(f"{size_bytes} bytes are more than a slot may have")
        with self._lock:
            if self._bytes + whole_bytes > self._bytes_max:
                raise ResourceError(f"all slots together may have {self._bytes_max} bytes")
            self._bytes += whole_bytes
        try:
            return self._pool.acquire_sealed(whole_bytes)
        except BaseException:
            self._count(-whole_bytes)
            raise

    def give_back(self, slab: SealedSlab) -> None:
        self._count(-slab.size_bytes)
        with contextlib.suppress(BufferError):  # a view in a traceback: unmapped when that goes
            slab.release()

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes += size_bytes


class _BrokenError(Exception):
    """The peer broke the protocol, or is gone: the connection ends."""


class LaneConnection:
    """Answers until the peer goes, breaks the protocol, or ``finish``."""

    def __init__(
        self,
        peer: socket.socket,
        dispatcher: Dispatcher,
        slots: LaneSlots,
        left: Callable[[LaneConnection], None],
    ) -> None:
        self._socket = peer
        self._channel = channel_over(peer, waits=False)
        self._dispatcher = dispatcher
        self._slots = slots
        self._left = left
        self._slab: SealedSlab | None = None
        self._view = memoryview(bytearray())
        self._plan: Plan | None = None  # of the request before: the next is mostly like it
        self._plan_tail = b""
        self._plan_bytes = 0
        self._plan_priority = 0
        self._thread = threading.Thread(target=self._run, name="lane-app", daemon=True)

    def start(self) -> None:
        """Raises: RuntimeError where the machine gives no thread."""
        self._thread.start()

    def finish(self) -> None:
        """Takes nothing more; what was sent before is still answered."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._serve()
        except (_BrokenError, OSError):
            pass
        except Exception as error:  # noqa: BLE001 - a defect ends one connection, not the door
            sys.stderr.write("inference: a defect of ours on the fast lane\n")
            traceback.print_exception(error)
        finally:
            self._drop_slot()
            self._channel.close()
            self._socket.close()
            self._left(self)

    def _serve(self) -> None:
        buffer = bytearray(PACKET_BYTES_MAX + 1)
        exchange = self._channel.exchange
        self._wait_at_most(_HELLO_S)
        size = exchange(None, buffer)
        if not size:
            return
        self._greet(bytes(buffer[:size]))
        self._wait_at_most(0)
        answer: bytes | bytearray | None = None
        while size := exchange(answer, buffer):
            answer = self._handle(buffer, size)

    def _greet(self, data: bytes) -> None:
        hello = self._decode(data)
        if not isinstance(hello, Hello):
            self._refuse("the first packet must be Hello")
        elif hello.version != VERSION:
            self._send(
                Elsewhere(message=f"this lane speaks version {VERSION}", request=hello.request)
            )
            raise _BrokenError
        else:
            self._resize(hello)

    def _handle(self, buffer: bytearray, size: int) -> bytes | bytearray | None:
        """The packet to send, where that was not done."""
        plan = self._plan
        if (
            plan is not None
            and size == self._plan_bytes
            and buffer.startswith(self._plan_tail, packets.INFER_TAIL_BEGIN)
        ):
            # As the one before, but for what a request begins with: it need not be read again.
            kind, priority, flags, number, timeout_us, sequence = packets.INFER_BEGIN.unpack_from(
                buffer
            )
            same = kind == packets.INFER_KIND and priority == self._plan_priority
            if same and not (flags or sequence) and timeout_us <= packets.TIMEOUT_US_MAX:
                return self._answer(plan, number, timeout_us)
        packet = self._decode(bytes(buffer[:size]))
        if isinstance(packet, Infer):
            return self._infer(packet, buffer[packets.INFER_TAIL_BEGIN : size])
        if isinstance(packet, Resize):
            self._resize(packet)
        elif isinstance(packet, Take):
            self._give_slot(packet.request)
        else:
            self._refuse(f"{type(packet).__name__} is not for an agent")
        return None

    def _decode(self, data: bytes) -> Packet:
        try:
            return decode(data)
        except FormatError as error:
            self._refuse(error.message)

    def _refuse(self, message: str) -> NoReturn:
        self._send(Failure(reason="FormatError", status="INVALID_ARGUMENT", message=message))
        raise _BrokenError

    def _resize(self, wanted: Hello | Resize) -> None:
        """Gives the slot back before another is taken: limits hold for what is in use."""
        self._drop_slot()
        try:
            self._use(self._slots.take(wanted.slot_bytes))
        except ResourceError as error:
            self._send(Elsewhere(message=error.message, request=wanted.request))
            return
        self._give_slot(wanted.request)

    def _give_slot(self, request: int) -> None:
        if self._slab is None:
            self._refuse("there is no slot to take")
        data = encode(SlotGiven(slot_bytes=self._slab.size_bytes, request=request))
        socket.send_fds(self._socket, [data], [self._slab.descriptor], socket.MSG_DONTWAIT)

    def _use(self, slab: SealedSlab) -> None:
        self._slab = slab
        self._view = memoryview(slab.memory)

    def _drop_slot(self) -> None:
        self._drop_plan()  # it looks into the slot
        self._view = memoryview(bytearray())
        if self._slab is not None:
            slab, self._slab = self._slab, None
            self._slots.give_back(slab)

    def _drop_plan(self) -> None:
        if self._plan is not None:
            self._plan.close()
            self._plan = None

    def _infer(self, packet: Infer, tail: bytearray) -> bytes | bytearray:
        self._drop_plan()
        try:
            plan = Plan(packet, self._view)
        except Exception as error:  # noqa: BLE001 - as in the other door: nothing of it is shown
            return _failure(error, packet.request)
        if plan.lasts:
            self._plan, self._plan_tail = plan, bytes(tail)
            self._plan_bytes = packets.INFER_TAIL_BEGIN + len(tail)
            self._plan_priority = packet.priority
        return self._answer(plan, packet.request, packet.timeout_us)

    def _answer(self, plan: Plan, number: int, timeout_us: int) -> bytes | bytearray:
        try:
            repeated = plan.repeated
            if repeated is not None and repeated.run():
                return plan.numbered(number)
            if repeated is not None and repeated.over:
                plan.forget_repeated()
            answer = self._dispatcher.run(
                plan.request, timeout_s=timeout_us / 1e6 if timeout_us else None
            )
            with answer:
                again = plan.again(number, answer)
                if again is None:
                    return self._place(plan, number, answer)
                plan.repeat(self._dispatcher, answer)
                return again
        except Exception as error:  # noqa: BLE001 - as in the other door: nothing of it is shown
            return _failure(error, number)

    def _place(self, plan: Plan, number: int, answer: Answer) -> bytes:
        """Copies the outputs into the slot, or into a larger one. Raises: ResourceError."""
        parts = parts_of(answer)
        places = places_for(answer, parts)
        new_slot_bytes = self._room_for(max((p.offset + p.size_bytes for p in places), default=0))
        for place, part in zip(places, parts, strict=True):
            if isinstance(part, bytes):
                self._view[place.offset : place.offset + len(part)] = part
            else:
                array_of(place, self._view)[...] = part
        packet = answer_packet(answer, places, new_slot_bytes=new_slot_bytes, number=number)
        if not new_slot_bytes:
            plan.keep(answer, places, packet)
        return packet

    def _room_for(self, size_bytes: int) -> int:
        """0, or the size of the slot that had to replace one too small."""
        if size_bytes <= len(self._view):
            return 0
        slab = self._slots.take(size_bytes)
        self._drop_slot()
        self._use(slab)
        return slab.size_bytes

    def _send(self, packet: Packet) -> None:
        """Never waits: a peer that does not read its answers is not served.

        Raises: OSError.
        """
        self._socket.send(encode(packet), socket.MSG_DONTWAIT)

    def _wait_at_most(self, seconds: int) -> None:
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, 0)
        )


def _failure(error: Exception, request: int) -> bytes:
    """The error as a packet; what does not fit one is cut off, and of a defect nothing is in it."""
    if not isinstance(error, EdgeError):
        traceback.print_exception(error)
        return _with_request(encode(_DEFECT), request)
    facts = {str(key): str(value) for key, value in error.facts.items()}
    made = Failure(
        reason=error.reason,
        status=error.grpc_status,
        message=error.message,
        facts=facts,
        request=request,
    )
    try:
        return encode(made)
    except FormatError:
        short = error.message.encode("utf-8", "replace")[:_TEXT_MAX].decode("utf-8", "ignore")
        return encode(
            Failure(reason=error.reason, status=error.grpc_status, message=short, request=request)
        )


def _with_request(packet: bytes, request: int) -> bytes:
    return packet[:4] + struct.pack("<I", request) + packet[8:]
