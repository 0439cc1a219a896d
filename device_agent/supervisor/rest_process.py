"""The REST process: ``python -m device_agent.supervisor.rest_process``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from functools import partial

from device_agent.config import from_json
from device_agent.rest import run_rest
from device_agent.supervisor.orphan import die_with_parent
from device_agent.supervisor.ready import say_ready
from edge_sdk.base import EdgeError


def main() -> None:
    parser = argparse.ArgumentParser(prog="edge-agent-rest")
    parser.add_argument("--config-json", required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--ready-fd", type=int)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    try:
        config = from_json(arguments.config_json)
        run_rest(config, over, when_open=partial(say_ready, arguments.ready_fd))
    except EdgeError as error:
        sys.stderr.write(f"edge-agent rest: {error.message}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
