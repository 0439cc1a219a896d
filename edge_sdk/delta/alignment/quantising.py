"""Scales that nobody wrote down as a tensor: computed from the weights as quantisers do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.alignment.ranges import CHANNELS_HERE_MAX
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberKind, NumberList

_FLOAT32 = NUMBER_KINDS["float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Factors and zero points of the channels of an axis."""

    channels: int
    inner: int
    factors: NumberList
    zeros: NumberList | None


def schemes(
    numbers: NDArray[np.float32], axes: Iterable[tuple[int, int]], target: NumberKind
) -> Iterator[Scheme]:
    """What quantisers may have taken for weights that stand in the target's order.

    Symmetric by the largest absolute value, over all steps but the lowest or over all;
    asymmetric by the smallest and largest value, zero among them.
    """
    bounds = np.iinfo(target.storage)
    steps = int(bounds.max) - int(bounds.min)
    middle = (int(bounds.max) + int(bounds.min) + 1) // 2
    for channels, inner in axes:
        if channels > CHANNELS_HERE_MAX:
            continue
        by_channel = numbers.reshape(-1, channels, inner)
        low = np.minimum(by_channel.min(axis=(0, 2)), 0).astype(np.float64)
        high = np.maximum(by_channel.max(axis=(0, 2)), 0).astype(np.float64)
        largest = np.maximum(-low, high)
        for scale, zero in (
            (largest / (steps // 2), np.full(channels, middle)),
            (largest * 2 / steps, np.full(channels, middle)),
            *_asymmetric(low, high, int(bounds.min), steps),
        ):
            factors = np.where(scale > 0, scale, 1.0)
            yield Scheme(
                channels=channels,
                inner=inner,
                factors=NumberList(kind=_FLOAT32, content=factors.astype("<f4").tobytes()),
                zeros=zero_points(zero, target),
            )


def _asymmetric(
    low: NDArray[np.float64], high: NDArray[np.float64], lowest: int, steps: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[Any]]]:
    scale = (high - low) / steps
    with np.errstate(all="ignore"):
        zero = lowest - low / scale
    yield scale, np.clip(np.rint(np.nan_to_num(zero)), lowest, lowest + steps)


def zero_points(zeros: NDArray[Any], target: NumberKind) -> NumberList | None:
    """As a map holds them; None where all are 0."""
    if not np.any(zeros):
        return None
    return NumberList(kind=target, content=zeros.astype(target.storage).tobytes())
