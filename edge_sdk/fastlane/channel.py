"""A packet out and the next one in: one call, compiled where there was a compiler (csrc/)."""

from __future__ import annotations

import errno
import os
import socket
from typing import Protocol

# Being woken on another core takes 25 to 70 µs in a virtual machine. Only the compiled channel
# polls: without the interpreter's lock it is in nobody's way.
_POLL_US = 100


class Channel(Protocol):
    """Over a socket that stays its owner's. For one thread at a time."""

    def exchange(self, packet: bytes | bytearray | None, buffer: bytearray, /) -> int:
        """Sends the packet, if there is one, and waits for the next one: its size, 0 at the end.

        Raises: BrokenPipeError (the packet was not sent, the peer has gone), BlockingIOError
        (out of the socket's time, or no room to send), other OSErrors.
        """

    def close(self) -> None:
        """To be called before the socket's own: the number of its descriptor may be another's
        afterwards."""


class PlainChannel:
    """The same in Python."""

    def __init__(self, peer: socket.socket, *, waits: bool) -> None:
        self._send = peer.send
        self._receive = peer.recv_into
        self._flags = 0 if waits else socket.MSG_DONTWAIT

    def exchange(self, packet: bytes | bytearray | None, buffer: bytearray, /) -> int:
        if packet is not None:
            try:
                self._send(packet, self._flags)
            except ConnectionResetError as error:
                raise BrokenPipeError(errno.EPIPE, error.strerror) from None
        return self._receive(buffer)

    def close(self) -> None:
        """The socket itself knows."""


def channel_over(peer: socket.socket, *, waits: bool) -> Channel:
    """``waits``: for room to send, as long as the socket's own limit is."""
    try:
        from edge_sdk.fastlane._channel import Channel as Compiled
    except ImportError:
        return PlainChannel(peer, waits=waits)
    return Compiled(peer.fileno(), waits, _POLL_US if (os.cpu_count() or 1) > 1 else 0)
