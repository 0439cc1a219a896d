"""A slow network on one machine: a TCP relay on loopback that paces and counts bytes.

It runs in a process of its own, so that it does not take turns with what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

_PIECE_BYTES = 16 << 10
_SLACK_S = 0.005  # how far a late wake-up may be caught up


@dataclass(slots=True, kw_only=True)
class Pace:
    """When the next bytes may pass; pure, the caller brings the time.

    ``bytes_per_s`` of 0 means without limit.
    """

    bytes_per_s: float
    free_at_s: float = 0.0

    def wait_s(self, count: int, now_s: float) -> float:
        """Books ``count`` bytes and says how long to hold them back."""
        if self.bytes_per_s <= 0:
            return 0.0
        self.free_at_s = max(self.free_at_s, now_s - _SLACK_S) + count / self.bytes_per_s
        return max(0.0, self.free_at_s - now_s)


class SlowLink:
    """Relays ``127.0.0.1:port`` to ``target``; each direction has the rate for itself.

    Used as a context manager; ``address`` is where to connect.
    """

    def __init__(self, target: str, *, bytes_per_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._rate = context.Value("d", bytes_per_s)
        self._down = context.Value("q", 0)
        self._up = context.Value("q", 0)
        self._ready, theirs = context.Pipe()
        self._process = context.Process(
            target=_relay_process,
            args=(target, self._rate, self._down, self._up, theirs),
            daemon=True,
        )
        self.address = ""

    def __enter__(self) -> SlowLink:
        self._process.start()
        if not self._ready.poll(30):
            raise TimeoutError("the relay did not start within 30 s")
        self.address = f"127.0.0.1:{self._ready.recv()}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()
        self._ready.close()

    def set_rate(self, bytes_per_s: float) -> None:
        """From the next piece on; 0 takes the limit away."""
        self._rate.value = bytes_per_s

    @property
    def down_bytes(self) -> int:
        """From the target to the caller, TCP payload, since the start."""
        return int(self._down.value)

    @property
    def up_bytes(self) -> int:
        return int(self._up.value)


def _relay_process(target: str, rate: Any, down: Any, up: Any, ready: Connection) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_relay(target, rate, down, up, ready))


async def _relay(target: str, rate: Any, down: Any, up: Any, ready: Connection) -> None:
    host, _, port = target.rpartition(":")
    paces = Pace(bytes_per_s=rate.value), Pace(bytes_per_s=rate.value)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        limit = _limiter(rate)
        await asyncio.gather(
            _pump(far_reader, writer, paces[0], down, limit),
            _pump(reader, far_writer, paces[1], up, limit),
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_PIECE_BYTES)
    ready.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def _limiter(rate: Any) -> Callable[[], float]:
    return lambda: float(rate.value)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pace: Pace,
    counter: Any,
    limit: Callable[[], float],
) -> None:
    try:
        while data := await reader.read(_PIECE_BYTES):
            pace.bytes_per_s = limit()
            delay_s = pace.wait_s(len(data), time.monotonic())
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            writer.write(data)
            await writer.drain()
            with counter.get_lock():
                counter.value += len(data)
    except OSError:
        pass  # one side went away: the other learns it by the close below
    finally:
        writer.close()
