"""A clock of its own for processes that a test starts, which the test can set while they run.

A few lines of C are preloaded (shifted_clock.c), so that what judges certificates below Python
has that clock as well. Needs a C compiler, on Linux.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class ShiftedClock:
    """Right until it is set."""

    def __init__(self, folder: Path) -> None:
        self._shift = folder / "clock"
        self._library = folder / "shifted_clock.so"
        assert " " not in str(folder), "the loader would take it for two libraries"
        self.set(time.time())
        subprocess.run(
            ["cc", "-O1", "-shared", "-fPIC", "-o", self._library, SOURCE], check=True, timeout=60
        )

    def set(self, at_s: float) -> None:
        """It is ``at_s`` seconds after the beginning of 1970."""
        with self._shift.open("r+b" if self._shift.exists() else "wb") as file:
            file.write(struct.pack("=q", int(at_s - time.time())))

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "EDGE_TEST_CLOCK": str(self._shift)}

    def year(self) -> int:
        """What a process with that clock takes for the year."""
        said = subprocess.run(
            [sys.executable, "-S", "-c", "import time; print(time.gmtime()[0])"],
            env=self.environment, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        return int(said.stdout)
