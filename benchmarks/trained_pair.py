"""A model of 90 MB and its fine-tune, both really trained, in the precisions that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo import digits, graph
from demo.mlp import fine_tune, forward, fresh, weight_count
from demo.quantise import compile_int8

# 22.4 million weights: 89.6 MB in FP32, as large as the model of the headline to beat.
WIDTHS = (digits.PIXELS, 4096, 4320, 1024, digits.CLASSES)
TRAIN_STEPS = 60
TUNE_STEPS = 60
TUNE_RATE = 1e-4  # the hard end: rates of 1e-6 to 1e-5 give smaller deltas
_FIRST_DAY = 200
_CALIBRATION_SAMPLES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two files of one precision: the version before and after the fine-tune."""

    precision: str
    source: Path
    target: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPairs:
    pairs: tuple[Pair, ...]
    weights: int
    accuracy: tuple[float, float]
    what: str

    def of(self, precision: str) -> Pair:
        return next(pair for pair in self.pairs if pair.precision == precision)


def train_pairs(
    folder: Path, *, widths: tuple[int, ...] = WIDTHS, tune_rate: float = TUNE_RATE
) -> TrainedPairs:
    """Trains, fine-tunes and writes both versions as FP32, FP16 and INT8 into ``folder``."""
    data = digits.load()
    early = data.train_images[:_FIRST_DAY], data.train_labels[:_FIRST_DAY]
    old = fine_tune(fresh(widths, seed=11), *early, steps=TRAIN_STEPS, rate=3e-4, seed=11)
    everything = data.train_images, data.train_labels
    new = fine_tune(old, *everything, steps=TUNE_STEPS, rate=tune_rate, seed=12)
    calibration = folder / "calibration.npz"
    np.savez(calibration, pixels=data.train_images[:_CALIBRATION_SAMPLES])
    files: dict[str, list[Path]] = {"fp32": [], "fp16": [], "int8": []}
    for name, layers in (("source", old), ("target", new)):
        for precision, dtype in (("fp32", np.float32), ("fp16", np.float16)):
            path = folder / f"{name}-{precision}.onnx"
            graph.write_model(layers, path, dtype=dtype)
            files[precision].append(path)
        files["int8"].append(compile_int8(files["fp32"][-1], calibration, folder / f"{name}-int8"))
    accuracy = [
        digits.accuracy(forward(layers, data.held_out_images)[-1], data.held_out_labels)
        for layers in (old, new)
    ]
    return TrainedPairs(
        pairs=tuple(
            Pair(precision=precision, source=source, target=target)
            for precision, (source, target) in files.items()
        ),
        weights=weight_count(new),
        accuracy=(accuracy[0], accuracy[1]),
        what=f"MLP {'-'.join(map(str, widths))} on scikit-learn's digits, really trained: "
        f"{TUNE_STEPS} steps of Adam at {tune_rate:.0e} from the source",
    )
