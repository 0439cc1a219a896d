"""Somebody who calls where devices enrol, from a machine of its own, to keep others from it.

``python -m tests.support.enrolment_flood ADDRESS AUTHORITIES SECRET``: from 127.0.0.2, with a
token that is used up, with wrong ones, with requests that are none or too large, with calls and
connections that say nothing. Says ``begun`` when it was told to be slower, or 400 wrong tokens
were judged, goes on until its standard input closes, then says in JSON what it got.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from edge_sdk.identity import make_key, make_request
from edge_sdk.protos import identity_v1_pb2 as wire
from edge_sdk.rpc import Credentials, Tls, open_channel

OWN_ADDRESS = "127.0.0.2"
CONNECTIONS, SILENT = 100, 100
METHOD = "/edge.identity.v1.EnrolmentService/Enrol"


class Flood:
    def __init__(self, address: str, authorities: bytes, secret: bytes) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._secret = secret
        self._own = make_request(make_key(), "device", "flood")
        self._over, self._height = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self.got: Counter[str] = Counter()
        tls = Credentials(tls=Tls(roots=authorities))
        self._channels = [open_channel(self._relay(), tls) for _ in range(3)]

    def run(self) -> None:
        acts: list[Callable[[int], bytes]] = [self._wrong, self._wrong, self._used_up]
        acts += [self._none_at_all, self._too_large]
        for number, act in enumerate(acts):
            self._start(lambda number=number, act=act: self._repeat(number, act))  # type: ignore[misc]
        held = [self._connect() for _ in range(CONNECTIONS)]
        calls = [self._silent(number) for number in range(SILENT)]
        self._height.wait(30)
        print("begun", flush=True)
        sys.stdin.read()
        self._over.set()
        with self._lock:
            print(json.dumps(self.got), flush=True)
        del held, calls

    def _start(self, act: Callable[[], None]) -> None:
        threading.Thread(target=act, daemon=True).start()

    # -- what is said ---------------------------------------------------------------------

    def _wrong(self, _round: int) -> bytes:
        return _message(self._own, secrets.token_bytes(32))

    def _used_up(self, number: int) -> bytes:
        return _message(make_request(make_key(), "device", f"flood-{number}"), self._secret)

    def _none_at_all(self, _round: int) -> bytes:
        return _message(b"0" * 1000, self._secret)

    def _too_large(self, _round: int) -> bytes:
        return _message(bytes(40 << 10), self._secret)

    def _repeat(self, number: int, act: Callable[[int], bytes]) -> None:
        ask = self._channels[number % 3].unary_unary(METHOD)
        tried = 0
        while not self._over.is_set():
            tried += 1
            try:
                ask(act(tried), timeout=30)
                said = "OK"
            except grpc.RpcError as error:
                said = error.code().name
            with self._lock:
                self.got[f"{act.__name__} {said}"] += 1
                answered = self.got[f"{self._wrong.__name__} {said}"]
                if answered > (0 if said == "RESOURCE_EXHAUSTED" else 400):
                    self._height.set()

    def _silent(self, number: int) -> object:
        def nothing() -> Iterator[bytes]:
            self._over.wait()
            yield from ()

        return self._channels[number % 3].stream_unary(METHOD).future(nothing())

    # -- from which machine ----------------------------------------------------------------

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._target, 10, source_address=(OWN_ADDRESS, 0))

    def _relay(self) -> str:
        """gRPC does not choose the address that it calls from."""
        listener = socket.create_server(("127.0.0.1", 0))

        def accept() -> None:
            here, _ = listener.accept()
            there = self._connect()
            there.settimeout(None)
            self._start(lambda: _pump(here, there))
            self._start(lambda: _pump(there, here))

        self._start(accept)
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _message(request: bytes, secret: bytes) -> bytes:
    return wire.EnrolRequest(request=request, secret=secret).SerializeToString()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass


if __name__ == "__main__":
    Flood(sys.argv[1], Path(sys.argv[2]).read_bytes(), bytes.fromhex(sys.argv[3])).run()
