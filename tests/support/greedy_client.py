"""One device that asks a distributor for everything it can, all at once, in a process of its own.

``python -m tests.support.greedy_client ADDRESS DIGEST``: says ``begun`` when all of it is under
way, goes on until its standard input closes, then says in JSON what it got.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc

from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.rpc import Credentials, open_channel

SERVICE = "/edge.delivery.v1.DeliveryService/"
NAME = "greedy"
WATCHES, SILENT, READERS, FLOODERS = 450, 200, 40, 4
_HEIGHT_S = 15.0


class Greedy:
    def __init__(self, address: str, digest: bytes) -> None:
        self._channels = [open_channel(address, Credentials(device=NAME)) for _ in range(4)]
        self._fetch = delivery.FetchRequest(digest=digest).SerializeToString()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.got: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()

    def run(self) -> None:
        acts: list[Callable[[], None]] = [self._huge_messages, self._huge_metadata]
        acts += [self._flood] * FLOODERS
        for act in acts:
            threading.Thread(target=act, daemon=True).start()
        held = [self._stream("Watch", b"", number) for number in range(WATCHES)]
        held += [self._stream("Fetch", self._fetch, number) for number in range(READERS)]
        held += [self._silent(number) for number in range(SILENT)]
        end_s = time.monotonic() + _HEIGHT_S
        while self._begun.total() < WATCHES + READERS and time.monotonic() < end_s:
            time.sleep(0.02)
        print("begun", flush=True)
        sys.stdin.read()
        self._over.set()
        with self._lock:
            print(json.dumps(self.got), flush=True)

    def _note(self, what: str) -> None:
        with self._lock:
            self.got[what] += 1

    def _stream(self, name: str, request: bytes, number: int) -> object:
        """Reads the first message, and then no more."""
        call = self._channels[number % 4].unary_stream(SERVICE + name)(request)

        def first() -> None:
            try:
                next(call)
                self._note(f"{name} held")
            except (grpc.RpcError, StopIteration):
                self._note(f"{name} {call.code().name}")
            self._begun[name] += 1

        threading.Thread(target=first, daemon=True).start()
        return call

    def _silent(self, number: int) -> object:
        def nothing() -> Iterator[bytes]:
            self._over.wait()
            yield from ()

        return self._channels[number % 4].stream_unary(SERVICE + "CheckIn").future(nothing())

    def _repeat(self, what: str, call: Callable[[], object]) -> None:
        while not self._over.is_set():
            self._note(f"{what} {_outcome(call)}")

    def _flood(self) -> None:
        ask = self._channels[0].unary_unary(SERVICE + "CheckIn")
        self._repeat("flood", lambda: ask(b"", timeout=30))

    def _huge_messages(self) -> None:
        ask = self._channels[1].unary_unary(SERVICE + "CheckIn")
        self._repeat("huge", lambda: ask(bytes(3 << 20), timeout=30))

    def _huge_metadata(self) -> None:
        ask = self._channels[2].unary_unary(SERVICE + "CheckIn")
        shown = [("x-much", "y" * 12_000)]
        self._repeat("metadata", lambda: ask(b"", timeout=30, metadata=shown))


def _outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    Greedy(sys.argv[1], bytes.fromhex(sys.argv[2])).run()
