"""From a float model and calibration samples to a folder with a variant and its report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.base import (
    ConflictError,
    NotFoundError,
    UsageError,
    refuse_overlap,
    whole_folder,
)
from quantize.calibrate import read_samples
from quantize.graph import read_float_model
from quantize.profiles import load_profile
from quantize.report import report_document
from quantize.targets import quantise_static

MODEL_FILE = "model.onnx"
REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A variant on disk. ``report`` is the document of ``report.json``."""

    folder: Path
    model: Path
    report: dict[str, Any]


def compile_model(
    model: Path, *, target: str, calibration: Path, folder: Path, replace: bool = False
) -> Compiled:
    """Makes the variant of ``model`` for ``target`` in ``folder``, whole or not at all.

    Raises: NotFoundError, FormatError (model or samples), UsageError (samples that do not fit
    the model), RefusedError (the target cannot run such a model), ConflictError (``folder``
    is there).
    """
    profile = load_profile(target)
    _refuse_existing(folder, replace=replace)
    refuse_overlap(folder, (model, calibration))
    float_model = read_float_model(model)
    samples = read_samples(calibration, float_model.inputs, profile.calibration_batch)
    made = quantise_static(float_model, samples, profile)
    report = report_document(
        model=float_model, samples=samples, profile=profile, made=made, file=MODEL_FILE
    )
    with whole_folder(folder, replace=True) as partial:
        (partial / MODEL_FILE).write_bytes(made.data)
        (partial / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        _refuse_existing(folder, replace=replace)  # also what appeared meanwhile
    return Compiled(folder=folder, model=folder / MODEL_FILE, report=report)


def _refuse_existing(folder: Path, *, replace: bool) -> None:
    """Only a folder that this command made, or an empty one, is ever replaced."""
    if not folder.parent.is_dir():
        raise NotFoundError(f"no folder {folder.parent} to write {folder.name} into")
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise UsageError(f"{folder} is not a folder; name one to be made")
    if not any(folder.iterdir()):
        return
    if not replace:
        raise ConflictError(f"{folder} is already there; give --force to replace it")
    foreign = sorted({entry.name for entry in folder.iterdir()} - {MODEL_FILE, REPORT_FILE})
    if foreign:
        raise ConflictError(f"{folder} holds {foreign[0]!r}, which is not ours; not replaced")
