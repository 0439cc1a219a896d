"""Whether two versions gave the same to the same request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_sdk.engines.contract import Array
from edge_sdk.engines.golden import DEFAULT_TOLERANCE, widened
from edge_sdk.manifest.model import TensorSpec, Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """``same``: all outputs are, within tolerance; ``difference``: the largest of two numbers.
    ``rows`` of an output that is a choice between columns, of which ``rows_same`` choose the
    same (0 and 0: the model has no such output)."""

    same: bool
    difference: float = 0.0
    rows: int = 0
    rows_same: int = 0


def agree(
    specs: tuple[TensorSpec, ...],
    tolerances: Mapping[str, Tolerance],
    before: Mapping[str, Array],
    candidate: Mapping[str, Array],
) -> Agreement:
    """``specs``: the outputs of the version before; what it has alone is no difference.

    A choice is the first output of floats with two dimensions: a row each, a column for each
    class.
    """
    same, difference, rows, rows_same = True, 0.0, 0, 0
    for spec in specs:
        if spec.name not in candidate:
            continue
        left, right = before[spec.name], candidate[spec.name]
        if left.shape != right.shape or left.dtype != right.dtype:
            same = False
            continue
        if spec.dtype == "string":
            same = same and bool((left == right).all())
            continue
        left, right = widened(left, spec.dtype), widened(right, spec.dtype)
        tolerance = tolerances.get(spec.name, DEFAULT_TOLERANCE)
        close = np.isclose(
            right, left, atol=float(tolerance.atol), rtol=float(tolerance.rtol), equal_nan=True
        )
        same = same and bool(close.all())
        difference = max(difference, _largest(left, right))
        if not rows and _is_choice(spec, left):
            rows = len(left)
            rows_same = int(np.count_nonzero(left.argmax(axis=1) == right.argmax(axis=1)))
    return Agreement(same=same, difference=difference, rows=rows, rows_same=rows_same)


def _largest(left: Array, right: Array) -> float:
    with np.errstate(invalid="ignore"):
        apart = np.abs(left - right)
    finite = apart[np.isfinite(apart)]
    return float(finite.max()) if finite.size else 0.0


def _is_choice(spec: TensorSpec, array: Array) -> bool:
    return "float" in spec.dtype and array.ndim == 2 and array.shape[1] > 1 and len(array) > 0
