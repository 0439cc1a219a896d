"""An app's end of the fast lane without the client: sends whatever a test wants."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.fastlane import (
    PACKET_BYTES_MAX,
    VERSION,
    Hello,
    Infer,
    Packet,
    Place,
    SlotGiven,
    decode,
    encode,
    map_sealed,
)

ANSWER_S = 30.0


class RawLane:
    """A connected socket; ``slot`` is the memory that was given last."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(ANSWER_S)
        self.socket.connect(str(path))
        self.slot: mmap.mmap | None = None

    def send(self, packet: Packet | bytes) -> None:
        self.socket.send(packet if isinstance(packet, bytes) else encode(packet))

    def receive(self) -> Packet | None:
        """The next packet; None: the other end has closed. A slot that comes is mapped."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, PACKET_BYTES_MAX + 1, 4)
        except ConnectionResetError:
            return None
        if not data:
            return None
        packet = decode(data)
        assert len(descriptors) == int(isinstance(packet, SlotGiven))
        if isinstance(packet, SlotGiven):
            self.slot = map_sealed(descriptors[0], packet.slot_bytes)
            os.close(descriptors[0])
        return packet

    def ask(self, packet: Packet | bytes) -> Packet | None:
        self.send(packet)
        return self.receive()

    def greet(self, slot_bytes: int = 4096) -> SlotGiven:
        given = self.ask(Hello(version=VERSION, slot_bytes=slot_bytes))
        assert isinstance(given, SlotGiven)
        return given

    def write(self, array: np.ndarray[Any, Any], offset: int = 0) -> None:
        assert self.slot is not None
        self.slot[offset : offset + array.nbytes] = array.tobytes()

    def read(self, place: Place) -> np.ndarray[Any, Any]:
        assert self.slot is not None
        data = self.slot[place.offset : place.offset + place.size_bytes]
        return np.frombuffer(data, place.dtype).reshape(place.shape)

    def close(self) -> None:
        self.socket.close()


@contextmanager
def raw_lane(path: Path | None) -> Iterator[RawLane]:
    assert path is not None
    lane = RawLane(path)
    try:
        yield lane
    finally:
        lane.close()


def place(array: np.ndarray[Any, Any], name: str = "x", offset: int = 0) -> Place:
    return Place(
        name=name, dtype=array.dtype.name, shape=array.shape, offset=offset, size_bytes=array.nbytes
    )


def request(array: np.ndarray[Any, Any], model: str, **more: Any) -> Infer:
    """One input ``x`` at the slot's begin."""
    return Infer(**{"model": model, "version": "", "inputs": (place(array),), "request": 7, **more})
