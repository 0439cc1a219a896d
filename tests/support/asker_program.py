"""``python asker_program.py ADDRESS MODEL EXPECTED.npz REQUESTS_PER_S``: see asker.py.

EXPECTED.npz holds ``input`` and, by version, the one output ``y`` that it gives for it. Says
each change of version and each problem as one JSON line, and all answers when standard input closes. Knows
nothing of this product.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as triton

_TOLERANCE = 1e-5  # versions made for tests differ by far more
_PROBLEMS_KEPT = 5
_INPUT = "input"

Array = np.ndarray[Any, Any]


def main() -> None:
    address, model, expected_file, rate = sys.argv[1:5]
    with np.load(expected_file) as loaded:
        expected = {name: loaded[name] for name in loaded.files}
    given = expected.pop(_INPUT)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    # No retries anywhere: neither the channel's nor the client's (it has none unless asked).
    client = triton.InferenceServerClient(address, channel_args=[("grpc.enable_retries", 0)])
    tensor = triton.InferInput("x", list(given.shape), "FP32")
    tensor.set_data_from_numpy(given)
    answers: list[tuple[float, str]] = []
    failed, problems, latest = 0, [], ""
    next_s = time.monotonic()
    while not stop.is_set():
        try:
            answer = client.infer(model, [tensor], client_timeout=10)
            version = answer.get_response().model_version
            problem = _judge(version, answer.as_numpy("y"), expected)
        except triton.InferenceServerException as error:
            problem = str(error)
        now_s = time.monotonic()
        if problem:
            failed += 1
            problems[_PROBLEMS_KEPT - 1 :] = [problem]
            print(json.dumps({"problem": problem}), flush=True)
        else:
            answers.append((now_s, version))
            if version != latest:
                latest = version
                print(json.dumps({"version": version}), flush=True)
        # A late request is caught up, but not a whole pause.
        next_s = max(next_s + 1 / float(rate), now_s - 0.5)
        time.sleep(max(0.0, next_s - now_s))
    client.close()
    print(json.dumps({"answers": answers, "failed": failed, "problems": problems}), flush=True)


def _judge(version: str, got: Array, expected: Mapping[str, Array]) -> str:
    if version not in expected:
        return f"answered by version {version!r}, which must not serve"
    if got.shape != expected[version].shape:
        return f"version {version} answered in shape {got.shape}"
    off = float(np.abs(got - expected[version]).max())
    return "" if off <= _TOLERANCE else f"an answer of {version} is off by {off:.2g}"


if __name__ == "__main__":
    main()
