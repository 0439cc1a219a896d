"""An application: asks an agent without pause, with the stock ``tritonclient``, and keeps count.

``python -m demo.client ADDRESS MODEL EXPECTED.npz REQUESTS_PER_S``. Nothing here knows this
product: it is a client of the Open Inference Protocol. It prints its counts as one JSON line
about four times a second and once more when it is told to stop (SIGTERM, or its standard
input closes).

EXPECTED.npz holds ``input/<name>`` for each input and ``<version>/<name>`` for each output of
each version: an answer that names one version and holds another's numbers counts as failed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

_TELL_EVERY_S = 0.25
_TOLERANCE = 1e-3
_PROBLEMS_KEPT = 5
_INPUT = "input"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(slots=True, kw_only=True)
class Counts:
    """Since the start. ``by_version`` counts good answers."""

    served: int = 0
    failed: int = 0
    slowest_ms: float = 0.0
    by_version: dict[str, int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, version: str, problem: str) -> None:
        if not problem:
            self.served += 1
            self.by_version[version] += 1
            return
        self.failed += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(problem)


def read_expected(path: Path) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Tensors by name, by version; the inputs stand under ``input``."""
    groups: dict[str, dict[str, npt.NDArray[Any]]] = {}
    with np.load(path) as loaded:
        for key in loaded.files:
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = loaded[key]
    return groups


def judge(version: str, outputs: Arrays, expected: Mapping[str, Arrays]) -> str:
    """What is wrong with an answer; empty: nothing."""
    if version not in expected:
        return f"answered by version {version!r}, which must not serve"
    for name, want in expected[version].items():
        got = outputs.get(name)
        if got is None or got.shape != want.shape:
            return f"version {version} answered without {name!r} of shape {want.shape}"
        if not np.allclose(got, want, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            return f"{name!r} is not what version {version} answers, which the answer names"
    return ""


class Asker:
    """One request of the stock client, always the same."""

    def __init__(self, address: str, model: str, inputs: Arrays) -> None:
        import tritonclient.grpc as triton
        from tritonclient.utils import np_to_triton_dtype

        self._triton = triton
        self._model = model
        self._inputs = []
        for name, array in inputs.items():
            tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            self._inputs.append(tensor)
        self._client = triton.InferenceServerClient(address)

    def ask(self) -> tuple[str, dict[str, npt.NDArray[Any]]]:
        """The version that answered, and its outputs."""
        answer = self._client.infer(self._model, self._inputs, client_timeout=10)
        response = answer.get_response()
        return response.model_version, {
            output.name: answer.as_numpy(output.name) for output in response.outputs
        }

    def ask_and_judge(self, expected: Mapping[str, Arrays]) -> tuple[str, str]:
        """The version and what is wrong with the answer."""
        try:
            version, outputs = self.ask()
        except self._triton.InferenceServerException as error:
            return "", str(error)
        return version, judge(version, outputs, expected)

    def close(self) -> None:
        self._client.close()


def ask_without_pause(
    address: str, model: str, expected_file: Path, requests_per_s: float, stop: threading.Event
) -> None:
    """Sends requests one after another, at most so many a second, until ``stop``."""
    expected = read_expected(expected_file)
    asker = Asker(address, model, expected.pop(_INPUT))
    counts = Counts()
    told_s = next_s = time.monotonic()
    try:
        while not stop.is_set():
            began_s = time.monotonic()
            counts.add(*asker.ask_and_judge(expected))
            now_s = time.monotonic()
            counts.slowest_ms = max(counts.slowest_ms, 1000 * (now_s - began_s))
            if now_s - told_s >= _TELL_EVERY_S:
                _tell(counts)
                told_s = now_s
            # A late request is caught up, but not a whole pause.
            next_s = max(next_s + 1 / requests_per_s, now_s - 0.1)
            stop.wait(max(0.0, next_s - now_s))
    finally:
        asker.close()
        _tell(counts)


def _tell(counts: Counts) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(counts) + b"\n")
    sys.stdout.buffer.flush()


def _stop_with_parent(stop: threading.Event) -> None:
    """Standard input ends when whoever started this is gone, killed or not."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()


def main() -> None:
    address, model, expected, requests_per_s = sys.argv[1:5]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides
    threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    ask_without_pause(address, model, Path(expected), float(requests_per_s), stop)


if __name__ == "__main__":
    main()
