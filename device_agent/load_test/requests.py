"""What is asked: inputs seeded from a model's signature, or rows of an .npz, with labels."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import FormatError, NotFoundError, UsageError
from edge_sdk.engines.golden import seeded_inputs
from edge_sdk.manifest import TensorSpec

LABELS = "labels"
_SEEDED_BYTES_MAX = 1 << 30  # of all samples together

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``labels``: one for each row of the answer; None: not known."""

    inputs: Mapping[str, Array]
    labels: Array | None = None


def seeded_requests(
    specs: Sequence[TensorSpec], *, seed: int, batch: int = 1, count: int = 8
) -> tuple[Request, ...]:
    """Different ones of one shape.

    Raises: UsageError (this model takes no batch; they would fill the device's memory).
    """
    made = []
    row_bytes = sum(one.nbytes for one in seeded_inputs(specs, seed=seed).values())
    if row_bytes * batch * count > _SEEDED_BYTES_MAX:
        raise UsageError(
            f"{count} samples of {batch} rows are {row_bytes * batch * count:,} bytes; at most "
            f"{_SEEDED_BYTES_MAX:,}: give a smaller batch= or distinct="
        )
    for number in range(count):
        rows = [seeded_inputs(specs, seed=seed + number * batch + row) for row in range(batch)]
        made.append(Request(inputs=_stacked(specs, rows) if batch > 1 else rows[0]))
    return tuple(made)


def file_requests(
    path: Path, specs: Sequence[TensorSpec], *, batch: int = 1, labelled: bool = False
) -> tuple[Request, ...]:
    """From an .npz whose arrays are named as the inputs, with one dimension more for the
    samples, or with samples along a free first dimension. ``labelled``: an array ``labels``
    holds the right class of each sample.

    Raises: NotFoundError, FormatError, UsageError.
    """
    arrays = _read(path)
    labels = arrays.pop(LABELS, None)
    if labelled and labels is None:
        raise UsageError(f"{path} has no array {LABELS!r}, only {sorted(arrays)}")
    wanted = {spec.name for spec in specs}
    if set(arrays) != wanted:
        raise UsageError(f"{path} has inputs {sorted(arrays)}; the model's are {sorted(wanted)}")
    samples = {spec.name: _samples(spec, arrays[spec.name], path) for spec in specs}
    counts = {name: len(one) for name, one in samples.items()}
    if labelled and labels is not None:
        counts[LABELS] = len(labels)
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise UsageError(f"{path} has different numbers of samples, or none: {counts}")
    count = next(iter(counts.values()))
    made = []
    for begin in range(0, count - batch + 1, batch):
        rows = [{name: one[begin + row] for name, one in samples.items()} for row in range(batch)]
        part = labels[begin : begin + batch] if labelled and labels is not None else None
        made.append(Request(inputs=_stacked(specs, rows) if batch > 1 else rows[0], labels=part))
    if not made:
        raise UsageError(f"{path} has {count} samples, fewer than one batch of {batch}")
    return tuple(made)


def right_among(scores: Array, labels: Array, *, top_k: int) -> float:
    """The share of rows whose label is among the ``top_k`` highest scores.

    ``scores``: (rows, ..., classes), or (classes,) for one row. Raises: UsageError.
    """
    if not scores.size or scores.size % len(labels):
        raise UsageError(f"an output of shape {list(scores.shape)} has no scores for the labels")
    rows = scores.reshape(len(labels), -1)
    top_k = min(top_k, rows.shape[1])
    best = np.argpartition(rows, -top_k, axis=1)[:, -top_k:]
    return float(np.mean(np.any(best == np.asarray(labels).reshape(-1, 1), axis=1)))


def _read(path: Path) -> dict[str, Array]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise FormatError(f"{path} is one array; an .npz with named arrays is needed")
        with found as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {path}") from None
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise FormatError(f"{path} is no .npz of plain arrays: {error}") from None


def _samples(spec: TensorSpec, array: Array, path: Path) -> list[Array]:
    """One array for each sample, as the model takes it."""
    if array.ndim == len(spec.shape) + 1:
        found = list(array)
    elif array.ndim == len(spec.shape) and array.ndim and spec.shape[0] == -1:
        found = [array[row : row + 1] for row in range(len(array))]
    elif array.ndim == len(spec.shape):
        found = [array]
    else:
        raise UsageError(
            f"{path}: {spec.name!r} has shape {list(array.shape)}; the model takes "
            f"{list(spec.shape)}, and samples come as one dimension more in front"
        )
    return [np.ascontiguousarray(one) for one in found]


def _stacked(specs: Sequence[TensorSpec], rows: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    for spec in specs:
        if not spec.shape or spec.shape[0] != -1:
            raise UsageError(
                f"input {spec.name!r} has the fixed shape {list(spec.shape)}: no batch fits"
            )
    return {spec.name: np.concatenate([row[spec.name] for row in rows]) for spec in specs}
