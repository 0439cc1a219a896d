"""Numbers of tensors, by their places: as few reads as decide a question."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberKind

Values = NDArray[np.float64]
Places = NDArray[np.int64]

SAMPLE_COUNT = 4096
_BLOCK_COUNT = 256
_HELD_BYTES_MAX = 4 << 20
_HELD_TENSORS = 4
_KINDS = {
    **NUMBER_KINDS,
    "int32": NumberKind(number=-1, name="int32", storage="<i4"),
    "int64": NumberKind(number=-1, name="int64", storage="<i8"),
}


def number_kind(one: LocatedTensor) -> NumberKind | None:
    """How its numbers are read; None where they are of another type, or packed."""
    return _KINDS.get(one.tensor.dtype)


def count_of(one: LocatedTensor) -> int:
    kind = number_kind(one)
    return one.tensor.length // kind.width_bytes if kind else 0


class Sampler:
    """Reads numbers of the tensors of one artifact. Memory is bounded."""

    def __init__(self, files: Sequence[OpenFile]) -> None:
        self._files = files
        self._held: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def raw(self, one: LocatedTensor, places: Places) -> NDArray[Any]:
        """Numbers at places of the tensor, as they are stored."""
        kind = number_kind(one)
        assert kind is not None
        storage = np.dtype(kind.storage)
        if one.tensor.length <= _HELD_BYTES_MAX:
            return np.frombuffer(self._all(one), storage)[places]
        order = np.argsort(places, kind="stable")
        found = np.empty(len(places), storage)
        borders = np.flatnonzero(np.diff(places[order]) != 1) + 1
        for run in np.split(order, borders):
            first = int(places[run[0]]) * kind.width_bytes
            data = self.bytes_of(one, first, len(run) * kind.width_bytes)
            found[run] = np.frombuffer(data, storage)
        return found

    def values(self, one: LocatedTensor, places: Places) -> Values:
        """Numbers at places of the tensor; what is not finite is 0."""
        return as_values(self.raw(one, places), number_kind(one))

    def spread(self, one: LocatedTensor, count: int = SAMPLE_COUNT) -> Values:
        """Numbers at ``spread_places``."""
        return self.values(one, spread_places(count_of(one), count))

    def all_values(self, one: LocatedTensor) -> Values:
        """All numbers of a tensor that is small enough."""
        return self.values(one, np.arange(count_of(one)))

    def moments(self, one: LocatedTensor) -> tuple[float, float, float, float]:
        """Standard deviation, mean relative to it, and the roots of skewness and kurtosis.

        They do not depend on the order of the numbers; the last two not on their scale.
        """
        kind = number_kind(one)
        assert kind is not None
        sums = np.zeros(5)
        for at in range(0, one.tensor.length, CHUNK_BYTES):
            data = self.bytes_of(one, at, min(CHUNK_BYTES, one.tensor.length - at))
            values = as_values(np.frombuffer(data, kind.storage), kind)
            squares = values * values
            totals = [values.sum(), squares.sum(), squares @ values, squares @ squares]
            sums += np.array([len(values), *map(float, totals)])
        return _central(sums)

    def _all(self, one: LocatedTensor) -> bytes:
        key = (one.file, one.tensor.offset)
        if key not in self._held:
            self._held[key] = self.bytes_of(one, 0, one.tensor.length)
            if len(self._held) > _HELD_TENSORS:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def bytes_of(self, one: LocatedTensor, at: int, length: int) -> bytes:
        """Bytes of a tensor, from its byte ``at`` on."""
        data = self._files[one.file].read(one.tensor.offset + at, length)
        # A file that became shorter meanwhile is found out where its chunks are read.
        return data + bytes(length - len(data))


def as_values(numbers: NDArray[Any], kind: NumberKind | None) -> Values:
    """Numbers as float64; what is not finite is 0."""
    if kind is not None and kind.name == "bfloat16":
        numbers = (numbers.astype("<u4") << np.uint32(16)).view("<f4")
    with np.errstate(all="ignore"):
        values = numbers.astype(np.float64)
        # Sums of fourth powers stay finite.
        values[~(np.abs(values) < 1e60)] = 0
    return values


def _central(sums: Values) -> tuple[float, float, float, float]:
    """Moments around the mean, from sums of powers 0 to 4."""
    mean, second, third, fourth = (float(one) / float(sums[0]) for one in sums[1:])
    variance = second - mean**2
    if not max(1e-12 * second, 1e-70) < variance < 1e100:
        return 0.0, 0.0, 0.0, 0.0
    size = variance**0.5
    skewness = (third - 3 * mean * second + 2 * mean**3) / size**3
    kurtosis = (fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4) / size**4
    return size, mean / size, float(np.cbrt(skewness)), max(kurtosis, 0.0) ** 0.25


def spread_places(count: int, wanted: int) -> Places:
    """Places of some blocks, evenly spread over ``count`` numbers; of all if they are few."""
    if count <= wanted:
        return np.arange(count)
    blocks = wanted // _BLOCK_COUNT
    starts = np.linspace(0, count - _BLOCK_COUNT, blocks).astype(np.int64)
    return (starts[:, None] + np.arange(_BLOCK_COUNT)).reshape(-1)


def scattered_places(count: int, wanted: int) -> Places:
    """Places that follow no stride of a tensor, the same every time; all if they are few."""
    if count <= wanted:
        return np.arange(count)
    golden = np.arange(1, wanted + 1, dtype=np.float64) * 0.6180339887498949
    return ((golden % 1.0) * count).astype(np.int64)


def correlation(x: Values, y: Values) -> float:
    """Of two samples, less what is common to all their numbers; 0 where one is constant."""
    return float(normal(x) @ normal(y))


def normal(x: Values) -> Values:
    """A sample of which products with others are correlations."""
    if not len(x):
        return x
    centred = x - np.median(x)
    # One outlier must not decide alone. Most of a sparse tensor says nothing of the rest.
    usual = 10 * float(np.median(np.abs(centred)))
    bound = usual or 6 * float(np.sqrt(np.mean(centred**2)))
    clipped = np.clip(centred, -bound, bound)
    clipped -= clipped.mean()
    length = float(np.sqrt(clipped @ clipped))
    return clipped / length if length > 0 else np.zeros_like(clipped)
