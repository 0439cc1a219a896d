"""From a float model and calibration samples to a folder with a variant and its report."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.base import (
    ConflictError,
    NotFoundError,
    UsageError,
    explain_os_error,
    refuse_overlap,
    sync_folder,
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
    with whole_folder(folder, replace=replace) as partial:
        _write(partial / MODEL_FILE, made.data)
        _write(partial / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
    return Compiled(folder=folder, model=folder / MODEL_FILE, report=report)


@contextmanager
def whole_folder(folder: Path, *, replace: bool) -> Iterator[Path]:
    """A temporary folder that takes the name ``folder`` only when the block ends well.

    Raises: ConflictError, NotFoundError, UsageError, ResourceError.
    """
    _refuse_existing(folder, replace=replace)
    tag = secrets.token_hex(6)
    partial = folder.with_name(f".{folder.name}.{tag}.tmp")
    before = folder.with_name(f".{folder.name}.{tag}.before")
    try:
        partial.mkdir()
    except OSError as error:
        raise explain_os_error(error, folder) from error
    try:
        yield partial
        sync_folder(partial)
        _refuse_existing(folder, replace=replace)
        if folder.is_dir():
            folder.rename(before)
        partial.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if before.is_dir() and not folder.exists():
            before.rename(folder)
        shutil.rmtree(before, ignore_errors=True)


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


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
