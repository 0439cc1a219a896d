"""Versions of a model on disk, with what each of them answers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.support.fleet_on_loopback import SIZES, versions
from tests.support.onnx_models import save

STEP = 1e-3  # relative change of each weight from one version to the next

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class KnownVersions:
    """By version: the file, the model, and its output ``y`` for the one input ``given``."""

    paths: Mapping[str, Path]
    models: Mapping[str, onnx.ModelProto]
    given: Array
    expected: Mapping[str, Array]


def known_versions(folder: Path, count: int, *, sizes: Sequence[int] = SIZES) -> KnownVersions:
    """``1.0.0``, ``2.0.0``, ...: each the one before after a small random step."""
    given = np.random.default_rng(3).standard_normal((1, sizes[0])).astype(np.float32)
    models = {
        f"{number}.0.0": model
        for number, model in enumerate(versions(count, sizes=sizes, step=STEP), 1)
    }
    paths = {
        version: save(model, folder / version / "model.onnx") for version, model in models.items()
    }
    expected = {version: answer_of(path, given) for version, path in paths.items()}
    for one, two in itertools.pairwise(expected.values()):
        assert np.abs(one - two).max() > 1e-4, "answers cannot tell the versions apart"
    return KnownVersions(paths=paths, models=models, given=given, expected=expected)


def answer_of(path: Path, given: Array) -> Array:
    """What a model answers when nothing of this product is involved."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answer: Array = session.run(["y"], {"x": given})[0]
    return answer
