"""A lane's other end that a test plays: it answers an app with whatever the test wants."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_sdk.fastlane import PACKET_BYTES_MAX, SlotGiven, encode
from edge_sdk.tensor_pool import SealedSlab, TensorPool

Serve = Callable[[socket.socket], None]
SLOT_BYTES = 1 << 16


@contextmanager
def lane_server(path: Path, serve: Serve) -> Iterator[None]:
    """``serve`` plays one connection after the other, each in its own thread."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=play, args=(peer,), daemon=True).start()

    def play(peer: socket.socket) -> None:
        with peer, suppress(BrokenPipeError, ConnectionResetError):
            serve(peer)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def slab() -> SealedSlab:
    return TensorPool(budget_bytes=SLOT_BYTES).acquire_sealed(SLOT_BYTES)


def give(peer: socket.socket, descriptors: list[int], *, size: int = SLOT_BYTES) -> None:
    """Reads a packet and answers it with a slot."""
    peer.recv(PACKET_BYTES_MAX)
    socket.send_fds(peer, [encode(SlotGiven(slot_bytes=size))], descriptors)


def give_good(peer: socket.socket) -> SealedSlab:
    made = slab()
    give(peer, [made.descriptor])
    return made


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
