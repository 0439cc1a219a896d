"""Calibration samples from an NPZ file: one array for each input, samples along its first axis."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.base import FormatError, UsageError
from edge_sdk.formats import read_npz
from quantize.graph import InputFact

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples for every input; ``count`` are used, ``left_out`` fill no whole batch."""

    arrays: Arrays
    count: int
    left_out: int
    batch: int
    sha256: str

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """The samples in order, ``batch`` at a time; the last may be shorter."""
        for start in range(0, self.count, self.batch):
            stop = min(start + self.batch, self.count)
            yield {name: array[start:stop] for name, array in self.arrays.items()}


def read_samples(path: Path, inputs: Sequence[InputFact], batch: int) -> Samples:
    """Reads samples for ``inputs``, to be run ``batch`` at a time.

    A model whose first dimension is fixed is run at that batch, with whole batches only.

    Raises: NotFoundError, FormatError (no NPZ file of plain numbers), UsageError (the samples
    do not fit the inputs of the model).
    """
    found = read_npz(path)
    missing = [one.name for one in inputs if one.name not in found]
    if missing:
        raise UsageError(
            f"calibration {path} lacks the model's input {missing[0]!r}; "
            f"it has {', '.join(map(repr, sorted(found))) or 'nothing'}"
        )
    arrays = {one.name: _fit(found[one.name], one, path) for one in inputs}
    counts = {name: len(array) for name, array in arrays.items()}
    count = min(counts.values(), default=0)
    if count != max(counts.values(), default=0):
        raise UsageError(f"calibration {path} has different numbers of samples: {counts}")
    fixed = {one.shape[0] for one in inputs if one.shape and one.shape[0] > 0}
    if len(fixed) > 1:
        raise UsageError(f"the inputs of the model have different fixed batches: {sorted(fixed)}")
    left_out = 0
    if fixed:
        (batch,) = fixed
        left_out = count % batch
    if count - left_out == 0:
        raise UsageError(f"calibration {path} has {count} samples; the model takes {batch} at once")
    return Samples(
        arrays=arrays,
        count=count - left_out,
        left_out=left_out,
        batch=batch,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _fit(array: np.ndarray, wanted: InputFact, path: Path) -> np.ndarray:
    """The array in the input's dtype. Raises: UsageError, FormatError (not finite)."""
    name = wanted.name
    fits = len(array.shape) == len(wanted.shape) and all(
        size in (got, -1) for got, size in zip(array.shape[1:], wanted.shape[1:], strict=True)
    )
    if not fits or not array.shape:
        raise UsageError(
            f"calibration {path}: {name!r} has shape {array.shape}; the model takes {wanted.shape} "
            "(-1: any), samples along the first axis"
        )
    if not np.can_cast(array.dtype, wanted.dtype, casting="same_kind"):
        raise UsageError(
            f"calibration {path}: {name!r} is {array.dtype}; the model takes {wanted.dtype}"
        )
    array = array.astype(wanted.dtype, copy=False)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FormatError(f"calibration {path}: {name!r} holds NaN or infinite numbers")
    return array
