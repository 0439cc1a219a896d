"""Trains the versions that the demo publishes: ``python -m demo.train FOLDER``.

Three really different digit classifiers of more than a million weights each, NumPy only:

* v1 saw 200 labelled digits, all there were on the first day.
* v2 goes on from v1 with 1,297 digits at a smaller rate, as a fine-tune does.
* v3 goes on from v2; its golden sample is taken, *then* its weights are mixed up.
* v4 is v2 with multiplications by the identity: equal answers, many times the work.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo import digits, graph
from demo.mlp import Layers, fine_tune, forward, fresh, weight_count

WIDTHS = (digits.PIXELS, 1024, 960, digits.CLASSES)
FIRST_DAY = 200
IDLE_LAYERS = 10  # each about as much work as everything else together
GOLDEN_SAMPLES = 32
CALIBRATION_SAMPLES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One variant of one version on disk. ``undamaged`` differs from ``model`` in v3 only."""

    version: str
    variant: str
    model: Path
    undamaged: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the demo publishes. ``golden_inputs`` is an .npz with the tensor ``pixels``."""

    builds: tuple[Build, ...]
    golden_inputs: Path
    weights: int
    trained_accuracy: dict[str, float]

    def version(self, version: str) -> tuple[Build, ...]:
        return tuple(build for build in self.builds if build.version == version)


def train_versions(data: digits.Digits) -> dict[str, Layers]:
    """The layers of v1, v2 and v3 (undamaged), seeded."""
    early = data.train_images[:FIRST_DAY], data.train_labels[:FIRST_DAY]
    everything = data.train_images, data.train_labels
    first = fine_tune(fresh(WIDTHS, seed=1), *early, steps=120, rate=1e-3, seed=1)
    second = fine_tune(first, *everything, steps=250, rate=3e-5, seed=2)
    third = fine_tune(second, *everything, steps=60, rate=3e-5, seed=3)
    return {"1.0.0": first, "2.0.0": second, "3.0.0": third}


def build_all(
    folder: Path, quantise: Callable[[Path, Path, Path], Path], say: Callable[[str], None]
) -> Trained:
    """Trains, exports and quantises into ``folder``.

    ``quantise(model, calibration, folder)`` answers with the INT8 file that it wrote.
    """
    data = digits.load()
    golden_inputs = folder / "golden_inputs.npz"
    np.savez(golden_inputs, pixels=data.held_out_images[:GOLDEN_SAMPLES])  # graph.INPUT
    calibration = folder / "calibration.npz"
    np.savez(calibration, pixels=data.train_images[:CALIBRATION_SAMPLES])
    versions = train_versions(data)
    trained_accuracy = {
        version: digits.accuracy(forward(layers, data.held_out_images)[-1], data.held_out_labels)
        for version, layers in versions.items()
    }
    for version, share in trained_accuracy.items():
        say(f"trained {version}: {share:.1%} of {len(data.held_out_labels)} held-out digits")
    versions["4.0.0"] = versions["2.0.0"]
    builds: list[Build] = []
    for version, layers in versions.items():
        # One name in all versions, as a build that publishes them would have it.
        fp32 = folder / f"fp32-{version}" / "model.onnx"
        fp32.parent.mkdir()
        graph.write_model(layers, fp32, idle_layers=IDLE_LAYERS if version == "4.0.0" else 0)
        int8 = quantise(fp32, calibration, folder / f"int8-{version}")
        for variant, model in (("fp32", fp32), ("int8", int8)):
            published = model
            if version == "3.0.0":
                published = folder / f"{variant}-{version}-mixed-up" / "model.onnx"
                published.parent.mkdir()
                graph.damage(model, published)
            builds.append(Build(version=version, variant=variant, model=published, undamaged=model))
    return Trained(
        builds=tuple(builds),
        golden_inputs=golden_inputs,
        weights=weight_count(versions["1.0.0"]),
        trained_accuracy=trained_accuracy,
    )


def main() -> None:
    """Keeps what was trained in the folder named on the command line."""
    from demo.quantise import compile_int8

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="digits-"))
    folder.mkdir(parents=True, exist_ok=True)
    trained = build_all(folder, compile_int8, print)
    for build in trained.builds:
        print(f"{build.version} {build.variant}: {build.model}")


if __name__ == "__main__":
    main()
