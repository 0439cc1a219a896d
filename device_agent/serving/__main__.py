"""``python -m device_agent.serving --config-json JSON --socket-fd N``: the inference process."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys

# Both are read at import, so they must stand before any other import of this process.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
if __name__ == "__main__":
    gc.disable()  # until all is imported

from device_agent.config import from_json
from device_agent.serving.process import InferenceProcess
from device_agent.statistics_page import open_page
from edge_sdk.base import EdgeError
from edge_sdk.base.garbage import leave_alone


def main(arguments: list[str] | None = None) -> int:
    """Runs until told to end (SIGTERM) or the supervisor is gone. Returns the exit code."""
    leave_alone()
    parser = argparse.ArgumentParser(prog="device_agent.serving")
    parser.add_argument("--config-json", required=True)
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--statistics-fd", type=int)
    options = parser.parse_args(arguments)
    wake, signalled = socket.socketpair()
    signalled.setblocking(False)
    signal.set_wakeup_fd(signalled.fileno())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # unwinds the main thread
    try:
        with wake, signalled, socket.socket(fileno=options.socket_fd) as updater:
            page = None if options.statistics_fd is None else open_page(options.statistics_fd)
            process = InferenceProcess(from_json(options.config_json), updater, wake, page)
            process.run(when_loaded=leave_alone_what_stays)
    except EdgeError as error:
        sys.stderr.write(f"inference: {error.message}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def leave_alone_what_stays() -> None:
    """Takes modules, classes and what is loaded by now out of Python's search for garbage.

    A full search looks at 48,000 objects and took 74 ms, in which no request goes on; with them
    out of it, what requests and swaps leave behind takes next to nothing.
    """
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        leave_alone(searches=False)
