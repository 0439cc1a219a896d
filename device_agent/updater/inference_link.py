"""The updater's end of the socket to the inference process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from device_agent.errors import InferenceGoneError
from device_agent.records import PACKET_BYTES_MAX, Message, decode_message, encode_message
from device_agent.updater.loop import Loop
from edge_sdk.base import FormatError


class InferenceLink:
    """Sends from the loop's thread; what arrives is handed to the loop."""

    def __init__(
        self, end: socket.socket, loop: Loop, on_message: Callable[[Message], None]
    ) -> None:
        self._end = end
        self._loop = loop
        self._on_message = on_message
        end.setblocking(True)
        threading.Thread(target=self._listen, name="updater-inference", daemon=True).start()

    def send(self, message: Message) -> None:
        """Raises: InferenceGoneError where nobody reads and the socket's buffer is full."""
        try:
            self._end.send(encode_message(message), socket.MSG_DONTWAIT)
        except OSError as error:
            raise InferenceGoneError(f"inference does not take messages: {error}") from None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RD)  # wakes the listening thread

    def _listen(self) -> None:
        while True:
            try:
                packet = self._end.recv(PACKET_BYTES_MAX + 1)
            except OSError:
                return
            if not packet:
                return
            try:
                message = decode_message(packet)
            except FormatError:
                continue  # of a newer release of the other process; nothing to do with it
            self._loop.put(self._deliver(message))

    def _deliver(self, message: Message) -> Callable[[], None]:
        return lambda: self._on_message(message)
