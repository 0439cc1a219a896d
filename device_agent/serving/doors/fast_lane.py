"""The fast lane: a SEQPACKET socket and shared memory, for apps on this device.

A request runs in the thread of its connection, through the same dispatcher as those of the
other doors. What a peer sends is never trusted: packets are parsed whole, no descriptor is
taken from it, and tensors are copied out of the shared slot before the engine sees them,
since the peer can write there at any time. PROTOCOL.md in ``edge_sdk/fastlane`` is normative.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
from pathlib import Path

from device_agent.access import OWNER, Access, OwnSocket
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.doors.lane_connection import LaneConnection, LaneSlots
from edge_sdk.base import EdgeError, UnavailableError
from edge_sdk.fastlane import Elsewhere, encode, lane_path
from edge_sdk.tensor_pool import TensorPool

_BACKLOG = 64
_CONNECTIONS_MAX = 64  # a thread and a slot each
_SHARE_OF_ONE = 0.75  # of these, for one process: it finds the other door for more
_PEER = struct.Struct("@iII")  # pid, uid, gid: SO_PEERCRED
_POOL_SHARE = 4  # slots may take a quarter of what tensors may
_GRACE_S = 2.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_WAIT_S = 0.5


class FastLaneDoor:
    """Listens beside the inference protocol's Unix socket."""

    def __init__(
        self, dispatcher: Dispatcher, pool: TensorPool, *, connections_max: int = _CONNECTIONS_MAX
    ) -> None:
        self._dispatcher = dispatcher
        self._slots = LaneSlots(pool, bytes_max=pool.statistics().budget_bytes // _POOL_SHARE)
        self._connections_max = connections_max
        self._lock = threading.Lock()
        self._connections: dict[LaneConnection, tuple[int, int]] = {}
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._own: OwnSocket | None = None
        self.path: Path | None = None

    @property
    def connections(self) -> int:
        """How many apps' connections are open."""
        with self._lock:
            return len(self._connections)

    def open(self, address: str, access: Access = OWNER) -> None:
        """``address`` is where the inference protocol listens, ``access`` to whom: who may not
        connect is given no memory either.

        Nothing happens where it is not that of a Unix socket. Raises: ConflictError (something that
        lives is in the way), UsageError (something that is no socket), RefusedError,
        NotFoundError (no such folder), UnavailableError.
        """
        path = lane_path(address)
        if path is None:
            return
        own = OwnSocket(f"unix:{path}", access)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(str(own.bind_path))
            listener.listen(_BACKLOG)
            own.show()
        except (OSError, EdgeError) as error:
            listener.close()
            own.close()
            if isinstance(error, EdgeError):
                raise
            raise UnavailableError(f"cannot listen at {path}: {error.strerror}") from None
        self.path, self._own, self._listener = path, own, listener
        self._thread = threading.Thread(
            target=self._accept, args=(listener,), name="lane", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Takes no more requests; those that were sent are answered first, for a moment."""
        if self._listener is None or self._own is None or self._thread is None:
            return
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._listener.close()
        self._listener = None
        self._own.close()
        with self._lock:
            leaving = list(self._connections)
        for connection in leaving:
            connection.finish()
        for connection in leaving:
            connection.join(_GRACE_S)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if not self._may_go_on(error):
                    return
                continue
            self._admit(peer)

    def _may_go_on(self, error: OSError) -> bool:
        """Out of descriptors: wait until a connection ends, and look again."""
        if error.errno not in _EXHAUSTED:
            return False
        with self._lock:
            leaving = next(iter(self._connections), None)
        if leaving is not None:
            leaving.join(_EXHAUSTED_WAIT_S)
        return self._listener is not None

    def _admit(self, peer: socket.socket) -> None:
        connection = LaneConnection(peer, self._dispatcher, self._slots, self._leave)
        process = _process_of(peer)
        with self._lock:
            of_one = sum(1 for one in self._connections.values() if one == process)
            each_max = max(1, int(self._connections_max * _SHARE_OF_ONE))
            admitted = len(self._connections) < self._connections_max and of_one < each_max
            if admitted:
                self._connections[connection] = process
        if admitted:
            try:
                connection.start()
            except RuntimeError:  # the machine gives no more threads
                self._leave(connection)
            else:
                return
        full = encode(Elsewhere(message="the fast lane is full, or this app's share of it is"))
        with contextlib.suppress(OSError):
            peer.send(full, socket.MSG_DONTWAIT)
        peer.close()

    def _leave(self, connection: LaneConnection) -> None:
        with self._lock:
            self._connections.pop(connection, None)


def _process_of(peer: socket.socket) -> tuple[int, int]:
    """Its number and user, as the kernel knows them; the number is 0 for another namespace's."""
    pid, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid
