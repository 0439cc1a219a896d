"""An application beside the fleet: asks an agent without pause with the stock Triton client.

Runs in a process of its own (asker_program.py), so that it does not take turns with the
test. An answer counts as failed where it names a version and holds other numbers than that
version gives.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.fleet_on_loopback import MODEL
from tests.support.processes import environment, wait_for

_PROGRAM = Path(__file__).with_name("asker_program.py")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """``answers``: when each good answer came (CLOCK_MONOTONIC) and the version it named."""

    answers: list[tuple[float, str]]
    failed: int
    problems: list[str]

    def versions(self) -> list[str]:
        """In the order in which they answered; one after another, without repeats."""
        order: list[str] = []
        for _, version in self.answers:
            if not order or order[-1] != version:
                order.append(version)
        return order

    def began(self, version: str) -> float:
        return next(at for at, named in self.answers if named == version)

    def rate(self, begin_s: float, end_s: float) -> float:
        """Good answers a second in that window."""
        return sum(begin_s <= at < end_s for at, _ in self.answers) / (end_s - begin_s)

    def longest_pause_s(self) -> float:
        times = [at for at, _ in self.answers]
        return max(b - a for a, b in itertools.pairwise(times))


class Asker:
    """The running application. ``latest`` is the version that answered last, ``problem``
    what went wrong last."""

    def __init__(
        self, address: str, expected: Mapping[str, Array], given: Array, folder: Path, rate: float
    ) -> None:
        path = folder / "expected.npz"
        np.savez(path, input=given, **expected)
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), address, MODEL, str(path), str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        self.latest = ""
        self.problem = ""
        self._result: Asked | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "problem" in said:
                self.problem = said["problem"]
            elif "version" in said:
                self.latest = said["version"]
            else:
                answers = [(at, version) for at, version in said.pop("answers")]
                self._result = Asked(answers=answers, **said)

    def wait_for(self, version: str, *, deadline_s: float = 30.0) -> None:
        def answered() -> bool:
            assert not self.problem, self.problem
            return self.latest == version

        wait_for(answered, f"an answer of {version}", deadline_s=deadline_s)

    def stop(self) -> Asked:
        if self._result is None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._reader.join(30)
            assert self._process.wait(10) == 0
            assert self._process.stdout is not None
            self._process.stdout.close()
        assert self._result is not None, "the application said nothing at its end"
        return self._result

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(30)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@contextlib.contextmanager
def asking(
    address: str,
    expected: Mapping[str, Array],
    given: Array,
    folder: Path,
    *,
    rate: float = 50.0,
) -> Iterator[Asker]:
    """Asks ``given`` from now on; ``expected`` has each version's one output ``y``."""
    asker = Asker(address, expected, given, folder, rate)
    try:
        yield asker
    finally:
        asker.kill()
