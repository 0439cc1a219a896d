"""``python -m benchmarks.runtime.pool_child SOCKET ...``: the inference process, which also tells
what it allocates.

The rest of the arguments are those of ``device_agent.serving``. On SOCKET each packet is a
question: ``trace`` begins tracing Python's allocations, or their peak anew, ``read`` ends it
where it was begun; both are answered by the figures of now. Nothing runs between a question
and the next.
"""

from __future__ import annotations

import ctypes
import gc
import json
import socket
import sys
import threading
import tracemalloc
from typing import Any

from benchmarks import memory
from device_agent.serving import __main__ as serving


def main() -> int:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(sys.argv[1])
    listener.listen(1)
    threading.Thread(target=_tell, args=(listener,), daemon=True).start()
    return serving.main(sys.argv[2:])


def _tell(listener: socket.socket) -> None:
    peer, _ = listener.accept()
    while question := peer.recv(64):
        peer.send(json.dumps(_figures(question.decode())).encode())


def _figures(question: str) -> dict[str, float | None]:
    above_bytes = None
    if question == "trace":
        if not tracemalloc.is_tracing():
            tracemalloc.start()
            # Empties CPython's lists of freed tuples: those that fill them again are in the trace,
            # and do not count as made anew when they take the place of one that is not.
            gc.collect()
        tracemalloc.reset_peak()
        _begin_bytes[:] = [tracemalloc.get_traced_memory()[0]]
    elif tracemalloc.is_tracing():
        above_bytes = tracemalloc.get_traced_memory()[1] - _begin_bytes[0]
        tracemalloc.stop()
    return {
        "peak_bytes": above_bytes,
        "page_faults": memory.minor_page_faults() if _COUNTS_PAGE_FAULTS else None,
        "mallocs": _large_allocations(),
    }


_begin_bytes: list[int] = []


def _large_allocations() -> int | None:
    """None where the counter is not loaded before everything else."""
    return None if _COUNTER is None else int(_COUNTER())


def _counter() -> Any:
    found = getattr(ctypes.CDLL(None), "large_allocations", None)
    if found is not None:
        found.restype = ctypes.c_ulong
    return found


# Looked up once: that allocates, and would be seen in what is traced.
_COUNTER = _counter()
_COUNTS_PAGE_FAULTS = memory.counts_page_faults()


if __name__ == "__main__":
    sys.exit(main())
