"""A link that can be made bad: a TCP relay on loopback that counts, paces, holds, cuts and lies.

It understands just enough of HTTP/2 to change a byte inside the payload of a DATA frame, so
that what is damaged is what gRPC carries and not the connection itself.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType

_PIECE_BYTES = 16 << 10
_BUFFER_BYTES = 64 << 10  # little lies between relay and receiver when the receiver dies
_HEADER_BYTES = 9  # of an HTTP/2 frame: length (3), type, flags, stream (4)
_DATA = 0
_LARGE_BYTES = 4096  # only Fetch sends DATA frames of this size to a device
_FLIP_AT = 2000  # within the first message of such a frame, behind its head


class Proxy:
    """Relays ``127.0.0.1:port`` to ``target``; ``down`` is from the target to the caller.

    Used as a context manager; ``address`` is where to connect.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._state = threading.Condition()
        self._closed = False
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._allowed: int | None = None
        self._to_flip = 0
        self._bytes_per_s = 0.0
        self._free_at_s = 0.0
        self.down_bytes = 0
        self.flipped = 0
        self.refused = 0  # connections that the target did not take

    def __enter__(self) -> Proxy:
        self._run(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._state:
            self._closed = True
            self._state.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the proxy hangs"

    # -- what a test does ----------------------------------------------------------------

    def hold_after(self, count: int) -> None:
        """Lets ``count`` more bytes down, then none."""
        with self._state:
            self._allowed = count

    @property
    def is_holding(self) -> bool:
        return self._allowed == 0

    def release(self) -> None:
        with self._state:
            self._allowed = None
            self._state.notify_all()

    def set_rate(self, bytes_per_s: float) -> None:
        """Down, all connections together; 0 takes the limit away."""
        with self._state:
            self._bytes_per_s = bytes_per_s

    def flip(self, times: int) -> None:
        """Changes one bit in each of the next ``times`` large DATA frames."""
        with self._state:
            self._to_flip = times

    def cut(self) -> None:
        """Ends every connection; new ones are accepted."""
        with self._state:
            doomed, self._sockets = self._sockets, set()
        for one in doomed:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    # -- the relay -----------------------------------------------------------------------

    def _run(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=10)
            except OSError:
                self.refused += 1
                near.close()
                continue
            far.settimeout(None)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._state:
                self._sockets |= {near, far}
            self._run(self._up, near, far)
            self._run(self._down, far, near)

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(_PIECE_BYTES):
                far.sendall(data)
        self._end(near, far)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        frames = _Frames()
        with contextlib.suppress(OSError):
            while piece := far.recv(_PIECE_BYTES):
                data = bytearray(piece)
                for position in frames.walk(data):
                    self._maybe_flip(data, position)
                self._send_paced(near, data)
        self._end(near, far)

    def _maybe_flip(self, data: bytearray, position: int) -> None:
        with self._state:
            if self._to_flip:
                self._to_flip -= 1
                self.flipped += 1
                data[position] ^= 0x10

    def _send_paced(self, near: socket.socket, data: bytearray) -> None:
        view = memoryview(data)
        while view:
            with self._state:
                while self._allowed == 0 and not self._closed and near in self._sockets:
                    self._state.wait(0.2)
                if self._closed or near not in self._sockets:
                    return
                count = len(view) if self._allowed is None else min(len(view), self._allowed)
                if self._allowed is not None:
                    self._allowed -= count
                delay_s = self._book(count)
            if delay_s > 0:
                time.sleep(delay_s)
            near.sendall(view[:count])
            with self._state:
                self.down_bytes += count
            view = view[count:]

    def _book(self, count: int) -> float:
        if not self._bytes_per_s:
            return 0.0
        now_s = time.monotonic()
        self._free_at_s = max(self._free_at_s, now_s) + count / self._bytes_per_s
        return self._free_at_s - now_s

    def _end(self, *pair: socket.socket) -> None:
        with self._state:
            self._sockets -= set(pair)
            self._state.notify_all()
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class _Frames:
    """Follows HTTP/2 frames through a stream of bytes, cut anywhere."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._payload_bytes = 0
        self._done_bytes = 0
        self._is_large = False

    def walk(self, data: bytearray) -> list[int]:
        """Where in ``data`` the byte to change of each large DATA frame lies."""
        found = []
        at = 0
        while at < len(data):
            if len(self._header) < _HEADER_BYTES:
                taken = data[at : at + _HEADER_BYTES - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) == _HEADER_BYTES:
                    self._payload_bytes = int.from_bytes(self._header[:3], "big")
                    self._done_bytes = 0
                    is_data = self._header[3] == _DATA
                    self._is_large = is_data and self._payload_bytes >= _LARGE_BYTES
            if len(self._header) == _HEADER_BYTES:
                part = min(self._payload_bytes - self._done_bytes, len(data) - at)
                if self._is_large and self._done_bytes <= _FLIP_AT < self._done_bytes + part:
                    found.append(at + _FLIP_AT - self._done_bytes)
                self._done_bytes += part
                at += part
                if self._done_bytes == self._payload_bytes:
                    self._header.clear()
        return found
