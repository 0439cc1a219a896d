"""An application: asks an agent without pause, with the stock ``tritonclient``, and keeps count.

``python -m demo.client ADDRESS MODEL EXPECTED.npz``. Nothing here knows this product: it is
a client of the Open Inference Protocol. It prints its counts as one JSON line about four
times a second and once more when it is told to stop (SIGTERM, or its standard input closes).

EXPECTED.npz holds ``inputs`` and, for each version, the scores that it must answer with: an
answer that names one version and holds another's scores counts as failed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from demo import graph

REQUESTS_PER_S = 100.0
_TELL_EVERY_S = 0.25
_TOLERANCE = 1e-3
_PROBLEMS_KEPT = 5


@dataclass(slots=True, kw_only=True)
class Counts:
    """Since the start. ``by_version`` counts good answers."""

    served: int = 0
    failed: int = 0
    slowest_ms: float = 0.0
    by_version: dict[str, int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note_failure(self, problem: str) -> None:
        self.failed += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(problem)


def judge(
    version: str, scores: npt.NDArray[np.float32], expected: dict[str, npt.NDArray[np.float32]]
) -> str:
    """What is wrong with an answer; empty: nothing."""
    if version not in expected:
        return f"answered by version {version!r}, which must not serve"
    if scores.shape != expected[version].shape:
        return f"version {version} answered with shape {scores.shape}"
    if not np.allclose(scores, expected[version], rtol=_TOLERANCE, atol=_TOLERANCE):
        return f"the answer is not that of version {version}, which it names"
    return ""


def ask_without_pause(
    address: str, model: str, expected_file: Path, stop: threading.Event
) -> Counts:
    """Sends ``REQUESTS_PER_S`` requests one after another until ``stop``."""
    import tritonclient.grpc as triton

    with np.load(expected_file) as loaded:
        expected = {name: loaded[name] for name in loaded.files}
    images = expected.pop("inputs")
    tensor = triton.InferInput(graph.INPUT, list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    counts = Counts()
    told_s = next_s = time.monotonic()
    with triton.InferenceServerClient(address) as client:
        while not stop.is_set():
            began_s = time.monotonic()
            try:
                answer = client.infer(model, [tensor], client_timeout=10)
            except triton.InferenceServerException as error:
                counts.note_failure(str(error))
            else:
                version = answer.get_response().model_version
                problem = judge(version, answer.as_numpy(graph.OUTPUT), expected)
                if problem:
                    counts.note_failure(problem)
                else:
                    counts.served += 1
                    counts.by_version[version] += 1
            now_s = time.monotonic()
            counts.slowest_ms = max(counts.slowest_ms, 1000 * (now_s - began_s))
            if now_s - told_s >= _TELL_EVERY_S:
                _tell(counts)
                told_s = now_s
            next_s = max(next_s + 1 / REQUESTS_PER_S, now_s - 0.1)
            stop.wait(max(0.0, next_s - now_s))
    return counts


def _tell(counts: Counts) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(counts) + b"\n")
    sys.stdout.buffer.flush()


def _stop_with_parent(stop: threading.Event) -> None:
    """Standard input ends when whoever started this is gone, killed or not."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()


def main() -> None:
    address, model, expected = sys.argv[1:4]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides
    threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    _tell(ask_without_pause(address, model, Path(expected), stop))


if __name__ == "__main__":
    main()
