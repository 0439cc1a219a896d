"""A camera app on a device: frames in, labels out, whatever version is installed.

It runs beside the agent, keeps nothing of the model itself, and survives updates: each
answer names the version that gave it, and when that changes the app reads the labels of the
new version before it names a class again.

    EDGE_AGENT_ADDRESS=unix:/var/lib/edge/agent.sock python camera.py --model team/digits

The camera here is a folder of ``.npy`` frames or, without one, a source of noise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_sdk.base import EdgeError, NotFoundError, UnavailableError
from edge_sdk.client import Client, Model, VersionNotActiveError, connect

RETRY_S = 0.2


def frames(folder: Path | None, shape: tuple[int, ...], count: int) -> Iterator[np.ndarray]:
    """``count`` frames of float32 in ``shape``, from files in turn or as noise."""
    files = sorted(folder.glob("*.npy")) if folder else []
    random = np.random.default_rng(0)
    for number in range(count):
        frame = np.load(files[number % len(files)]) if files else random.random(shape)
        yield frame.astype(np.float32).reshape(shape)


class Labels:
    """The class names of one version, read from the files that came with it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.version = ""
        self._names: list[str] = []

    def of(self, version: str, number: int) -> str:
        """The name of class ``number`` in ``version``; its number where that has no labels."""
        if version != self.version:
            self._read()
        known = version == self.version and number < len(self._names)
        return self._names[number] if known else str(number)

    def _read(self) -> None:
        with self._model.files() as files:
            self.version = files.version
            try:
                self._names = files.path("labels.txt").read_text().split()
            except NotFoundError:
                self._names = []


def classify(model: Model, frame: np.ndarray, *, patience_s: float) -> tuple[int, str]:
    """The likeliest class and the version that says so; waits for an agent that restarts."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            result = model.infer({"x": frame})
            return int(np.argmax(next(iter(result.outputs.values())))), result.version
        except UnavailableError:  # noqa: PERF203 - it is a loop of retries
            if time.monotonic() > end_s:
                raise
            time.sleep(RETRY_S)


def watch(
    client: Client,
    name: str,
    source: Iterator[np.ndarray],
    *,
    interval_s: float,
    patience_s: float,
) -> None:
    """One line of JSON for each frame, until there are no more."""
    model = client.model(name)
    labels = Labels(model)
    for number, frame in enumerate(source):
        likeliest, version = classify(model, frame, patience_s=patience_s)
        line = {"frame": number, "label": labels.of(version, likeliest), "version": version}
        print(json.dumps(line), flush=True)
        time.sleep(interval_s)


def require(model: Model, version: str, frame: np.ndarray) -> bool:
    """Whether ``version`` answers now: for a calibration that holds for one version only."""
    try:
        model.infer({"x": frame}, version=version)
    except VersionNotActiveError as error:
        print(f"camera: {error.message}", file=sys.stderr)
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Names what a camera sees.")
    parser.add_argument("--model", default="team/digits")
    parser.add_argument("--agent", help="its address; else EDGE_AGENT_ADDRESS")
    parser.add_argument("--frames", type=Path, help="folder of .npy files")
    parser.add_argument("--shape", default="1,64", help="of one frame, with its batch of 1")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between frames")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds without an agent")
    parser.add_argument("--require", help="go on only where this version is active")
    options = parser.parse_args()
    shape = tuple(int(size) for size in options.shape.split(","))
    try:
        with connect(options.agent) as client:
            if options.require:
                frame = next(frames(options.frames, shape, 1))
                if not require(client.model(options.model), options.require, frame):
                    return 7
            source = frames(options.frames, shape, options.count)
            watch(
                client,
                options.model,
                source,
                interval_s=options.interval,
                patience_s=options.patience,
            )
    except EdgeError as error:
        print(f"camera: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
