"""``python -m benchmarks.runtime.window_child SOCKET MODEL.onnx MILLISECONDS BATCH_MAX``: batching
as it is set by hand. Who comes first waits for others, so long and no longer, and runs for all.

The engine's session, the client and the packets are those of the fast lane; scheduler, pool and
metrics are left out, so that nothing but the window is in it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np

from edge_sdk.engines import open_engine
from edge_sdk.fastlane import (
    Answer,
    Hello,
    Infer,
    Place,
    Resize,
    SlotGiven,
    decode,
    encode,
    packets,
)
from edge_sdk.tensor_pool import SealedSlab, TensorPool

Array = np.ndarray[Any, Any]
_POOL_BYTES = 256 << 20
_RECEIVE_BYTES = packets.PACKET_BYTES_MAX + 1


class _Asked:
    """A row that waits for its turn; ``leads`` when its thread is to run it and others."""

    def __init__(self, row: Array) -> None:
        self.row = row
        self.answer: Array | None = None
        self.leads = False
        self.told = threading.Event()


class Window:
    """Gathers rows for ``window_s`` from the first on, or until there are ``batch_max``."""

    def __init__(self, session: Any, window_s: float, batch_max: int, runs_max: int) -> None:
        self._session = session
        self._window_s = window_s
        self._batch_max = batch_max
        self._turns = threading.Semaphore(runs_max)
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._gathering = False
        self._slots: dict[int, list[tuple[Array, Array, Any]]] = {}

    def infer(self, row: Array) -> Array:
        """The answer to one row."""
        asked = _Asked(row)
        with self._changed:
            self._waiting.append(asked)
            asked.leads = not self._gathering
            self._gathering = True
            if len(self._waiting) >= self._batch_max:
                self._changed.notify()
        if not asked.leads:
            asked.told.wait()
        if asked.leads:
            self._lead()
        assert asked.answer is not None
        return asked.answer

    def _lead(self) -> None:
        end_s = time.monotonic() + self._window_s
        with self._changed:
            while len(self._waiting) < self._batch_max:
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
        with self._turns:
            with self._changed:
                batch = self._waiting[: self._batch_max]
                self._waiting = self._waiting[self._batch_max :]
                self._gathering = bool(self._waiting)
                heir = self._waiting[0] if self._waiting else None
            if heir is not None:
                heir.leads = True
                heir.told.set()
            self._run(batch)

    def _run(self, batch: list[_Asked]) -> None:
        given, made, binding = self._take(len(batch), batch[0].row.shape[1:])
        for number, asked in enumerate(batch):
            given[number] = asked.row[0]
        binding.run()
        for number, asked in enumerate(batch):
            asked.answer = made[number : number + 1].copy()
            asked.told.set()
        with self._changed:
            self._slots[len(batch)].append((given, made, binding))

    def _take(self, rows: int, shape: tuple[int, ...]) -> tuple[Array, Array, Any]:
        with self._changed:
            idle = self._slots.setdefault(rows, [])
            if idle:
                return idle.pop()
        given = np.zeros((rows, *shape), np.float32)
        made = self._session.run({"x": given}, {})["y"]
        made = np.zeros(made.shape, np.float32)
        return given, made, self._session.bind({"x": given}, {"y": made})


def serve(peer: socket.socket, pool: TensorPool, window: Window) -> None:
    """One connection. The same request again is not taken apart again, as in the agent."""
    slab: SealedSlab | None = None
    last = b""
    infer = Infer(model="", version="", inputs=())
    tail = b""
    with contextlib.suppress(OSError):
        while data := peer.recv(_RECEIVE_BYTES):
            if data[packets.INFER_TAIL_BEGIN :] == last and data[0] == packets.INFER_KIND:
                request = int.from_bytes(data[4:8], "little")
            else:
                packet = decode(data)
                if isinstance(packet, Hello | Resize):
                    slab, last = pool.acquire_sealed(packet.slot_bytes), b""
                    given = encode(SlotGiven(slot_bytes=slab.size_bytes, request=packet.request))
                    socket.send_fds(peer, [given], [slab.descriptor])
                    continue
                assert isinstance(packet, Infer)
                infer, request, last, tail = (
                    *(packet, packet.request),
                    *(data[packets.INFER_TAIL_BEGIN :], b""),
                )
            assert slab is not None
            (place,) = infer.inputs
            view = memoryview(slab.memory)
            row = np.frombuffer(view, np.float32, place.size_bytes // 4, place.offset)
            answer = window.infer(row.reshape(place.shape))
            view[: answer.nbytes] = answer.data.cast("B")
            if not tail:
                made = Place(
                    name="y",
                    dtype="float32",
                    shape=answer.shape,
                    offset=0,
                    size_bytes=answer.nbytes,
                )
                tail = encode(Answer(version="1.0.0", outputs=(made,)))[packets.HEADER.size :]
            peer.send(packets.HEADER.pack(packets.ANSWER_KIND, 0, 0, request) + tail)


def main() -> None:
    path, model, milliseconds, batch_max = sys.argv[1:]
    pool = TensorPool(budget_bytes=_POOL_BYTES)
    session = open_engine("onnxruntime").load(Path(model), threads=1)
    runs_max = os.cpu_count() or 1
    window = Window(session, float(milliseconds) / 1000, int(batch_max), runs_max)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{path}.lane")
    listener.listen()
    threading.Thread(target=_accept, args=(listener, pool, window), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def _accept(listener: socket.socket, pool: TensorPool, window: Window) -> None:
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=serve, args=(peer, pool, window), daemon=True).start()


if __name__ == "__main__":
    main()
