"""Factors by channel, fitted: folded normalisation, or a layer that was scaled as it was
trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from edge_sdk.delta.alignment.ranges import CHANNELS_HERE_MAX
from edge_sdk.delta.alignment.sampling import Places, Values, scattered_places
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberList

_TRIED_CHANNELS = 16
_PLACES_PER_CHANNEL = 96
_PLACES_PER_CHANNEL_MAX = 1024
_PLACES_MAX = 2048
_PLACES_MIN = 8
# Below this error the numbers were computed from the factors, which are known to the last bit.
EXACT_ERROR = 2.0**-8
_LEAST_ERROR = 2.0**-24
# Factors must leave less of the error than this, and save more bits than a table costs.
_ERROR_SHARE_MAX = 0.95
_TABLE_BITS = 512

Sample = Callable[[Places], tuple[Values, Values]]
"""Places of the target to the source's numbers and the target's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """Number i of the target is that of the source times factor ``i // inner % channels``."""

    channels: int
    inner: int
    numbers: NumberList


def fit_factors(sample: Sample, axes: Iterable[tuple[int, int]], count: int) -> Factors | None:
    """The factors that save most, of ``count`` numbers, for an axis (channels and inner)."""
    best: tuple[float, int, int, bool] | None = None
    for channels, inner in axes:
        if channels > CHANNELS_HERE_MAX or count // channels < _PLACES_MIN:
            continue
        before, left, exact = _trial(sample, channels, inner, count)
        if left < _ERROR_SHARE_MAX * before:
            saved = count * math.log2(before / max(left, _LEAST_ERROR))
            saved -= channels * (32 if exact else 16) + _TABLE_BITS
            if saved > 0 and (best is None or saved > best[0]):
                best = saved, channels, inner, exact
    if best is None:
        return None
    _, channels, inner, exact = best
    places = _channel_places(np.arange(channels), channels, inner, count)
    x, y = (one.reshape(places.shape) for one in sample(places.reshape(-1)))
    numbers = _stored(_ratios(x, y, exact=exact), exact=exact)
    return Factors(channels=channels, inner=inner, numbers=numbers)


def _trial(sample: Sample, channels: int, inner: int, count: int) -> tuple[float, float, bool]:
    """The error without and with factors for this axis, tried on a few channels, and whether
    exact factors leave less."""
    chosen = np.unique(scattered_places(channels, _TRIED_CHANNELS))
    places = _channel_places(chosen, channels, inner, count)
    x, y = (one.reshape(places.shape) for one in sample(places.reshape(-1)))
    fitted, proved = slice(0, None, 2), slice(1, None, 2)
    exact, smooth = (
        relative_error(
            x[:, proved] * _ratios(x[:, fitted], y[:, fitted], exact=exact)[:, None],
            y[:, proved],
        )
        for exact in (True, False)
    )
    before = relative_error(x[:, proved], y[:, proved])
    return before, min(exact, smooth), exact < EXACT_ERROR or exact < smooth


def _channel_places(chosen: Places, channels: int, inner: int, count: int) -> Places:
    """Places of some numbers of each chosen channel, of shape (channels, places)."""
    wanted = max(_PLACES_PER_CHANNEL, _PLACES_MAX // max(1, len(chosen)))
    within = scattered_places(count // channels, min(wanted, _PLACES_PER_CHANNEL_MAX))
    outer, rest = np.divmod(within, inner)
    found: Places = (outer * channels)[None, :] * inner + chosen[:, None] * inner + rest[None, :]
    return found


def _ratios(x: Values, y: Values, *, exact: bool) -> Values:
    """The factor of each row; 1 where a row says nothing.

    Exact ones are the median of the ratios, which rounding hardly moves; others have the
    least squares, which use all that noisy numbers tell.
    """
    with np.errstate(all="ignore"):
        if exact:
            ratios = np.where((x != 0) & (y != 0), y / x, np.nan)
            known = np.count_nonzero(~np.isnan(ratios), axis=1)
            middle = np.take_along_axis(np.sort(ratios, axis=1), known[:, None] // 2, axis=1)
            return np.where(known > 0, middle[:, 0], 1.0)
        squares = np.sum(x * x, axis=1)
        return np.where(squares > 0, np.sum(x * y, axis=1) / squares, 1.0)


def _stored(factors: Values, *, exact: bool) -> NumberList:
    """As float32 where they are exact or too large or small for float16."""
    with np.errstate(all="ignore"):
        half = factors.astype("<f2")
    fits = not exact and bool(np.all(np.abs(half) > 2.0**-14) and np.all(np.isfinite(half)))
    kind = NUMBER_KINDS["float16" if fits else "float32"]
    return NumberList(kind=kind, content=factors.astype(kind.storage).tobytes())


def relative_error(x: Values, y: Values) -> float:
    """The median of the errors of x relative to those numbers of y that are not zero."""
    told = y != 0
    if not np.any(told):
        return 0.0
    return float(np.median(np.abs(x[told] - y[told]) / np.abs(y[told])))
