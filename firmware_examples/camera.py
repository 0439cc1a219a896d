"""A camera app on a device: frames in, labels out, whatever version is installed.

It runs beside the agent, keeps nothing of the model itself, and survives updates: each
answer names the version that gave it, and when that changes the app reads the labels of the
new version before it names a class again.

    EDGE_AGENT_ADDRESS=unix:/var/lib/edge/agent.sock python camera.py --model team/digits

The camera here is a folder of ``.npy`` frames or, without one, a source of noise. The next
frame is read while one is computed; a real camera goes with ``--when-full drop-oldest``, so that
what is named is never long past.
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
from edge_sdk.client import Client, Model, Stream, VersionNotActiveError, connect, stream

RETRY_S = 0.2


def frames(
    model: Model, folder: Path | None, shape: tuple[int, ...], count: int, interval_s: float = 0.0
) -> Iterator[dict[str, np.ndarray]]:
    """``count`` frames of float32 in ``shape``, from files in turn or as noise, under the name
    of the model's first input."""
    name = model.inputs[0].name
    files = sorted(folder.glob("*.npy")) if folder else []
    random = np.random.default_rng(0)
    for number in range(count):
        frame = np.load(files[number % len(files)]) if files else random.random(shape)
        yield {name: frame.astype(np.float32).reshape(shape)}
        time.sleep(interval_s)


class Labels:
    """The class names of one version, read from the files that came with it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.version = ""
        self._names: list[str] = []
        self._not_before_s = 0.0  # the agent need not be asked for each frame around a switch

    def of(self, version: str, number: int) -> str:
        """The name of class ``number`` in ``version``; its number where that has no labels."""
        if version != self.version and time.monotonic() >= self._not_before_s:
            self._read()
            if version != self.version:
                self._not_before_s = time.monotonic() + RETRY_S
        known = version == self.version and number < len(self._names)
        return self._names[number] if known else str(number)

    def _read(self) -> None:
        with self._model.files() as files:
            self.version = files.version
            try:
                self._names = files.path("labels.txt").read_text().split()
            except NotFoundError:
                self._names = []


def watch(model: Model, answers: Stream, *, patience_s: float) -> None:
    """One line of JSON for each frame that was answered, until there are no more.

    Frames while an agent restarts are passed over, for so long.
    """
    labels = Labels(model)
    patient_until_s = time.monotonic() + patience_s
    for one in answers:
        if one.result is None:
            if not isinstance(one.error, UnavailableError) or time.monotonic() > patient_until_s:
                raise one.error or AssertionError
            time.sleep(RETRY_S)
            continue
        patient_until_s = time.monotonic() + patience_s
        likeliest = int(np.argmax(next(iter(one.result.outputs.values()))))
        version = one.result.version
        line = {"frame": one.number, "label": labels.of(version, likeliest), "version": version}
        print(json.dumps({**line, "dropped": one.dropped}), flush=True)


def require(model: Model, version: str, frame: dict[str, np.ndarray]) -> bool:
    """Whether ``version`` answers now: for a calibration that holds for one version only."""
    try:
        model.infer(frame, version=version)
    except VersionNotActiveError as error:
        print(f"camera: {error.message}", file=sys.stderr)
        return False
    return True


def run(client: Client, options: argparse.Namespace) -> int:
    shape = options.shape
    model = client.model(options.model)
    if options.require and not require(
        model, options.require, next(frames(model, options.frames, shape, 1))
    ):
        return VersionNotActiveError.exit_code
    source = frames(model, options.frames, shape, options.count, options.interval)
    with stream(model, source, when_full=options.when_full, errors="answer", copy=False) as answers:
        watch(model, answers, patience_s=options.patience)
    return 0


def shape_of(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


def folder_of(text: str) -> Path:
    folder = Path(text)
    if not any(folder.glob("*.npy")):
        raise argparse.ArgumentTypeError(f"{folder} holds no .npy files")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description="Names what a camera sees.")
    parser.add_argument("--model", default="team/digits")
    parser.add_argument("--agent", help="its address; else EDGE_AGENT_ADDRESS")
    parser.add_argument("--frames", type=folder_of, help="folder of .npy files")
    parser.add_argument(
        "--shape", type=shape_of, default="1,64", help="of one frame, its batch of 1 too"
    )
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between frames")
    parser.add_argument(
        "--when-full",
        default="block",
        choices=("block", "drop-oldest", "drop-newest"),
        help="what becomes of frames that come faster than answers",
    )
    parser.add_argument("--patience", type=float, default=30.0, help="seconds without an agent")
    parser.add_argument("--require", help="go on only where this version is active")
    options = parser.parse_args()
    try:
        with connect(options.agent) as client:
            return run(client, options)
    except EdgeError as error:
        print(f"camera: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
