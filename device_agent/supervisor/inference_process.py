"""Becomes the inference process: ``python -m device_agent.supervisor.inference_process PID ...``.

Binds its life to the supervisor's (kept across exec), then is ``device_agent.serving`` with
the remaining arguments.
"""

from __future__ import annotations

import os
import sys

from device_agent.supervisor.orphan import die_with_parent


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    command = [sys.executable, "-m", "device_agent.serving", *sys.argv[2:]]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
