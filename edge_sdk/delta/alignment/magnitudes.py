"""How large numbers are, where nothing tells what they are: the rows and columns of a network
that was trained anew differ in size, and one factor for each is a context to code its numbers by.

The prediction is a matrix of rank 1 that stands on one number of the source, times 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.ranges import AlignedRange
from edge_sdk.delta.alignment.sampling import Sampler, Values, count_of, number_kind
from edge_sdk.delta.coder.fit import Fitter
from edge_sdk.delta.coder.policy import best_fit
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.low_rank import COLUMNS_MAX, FACTOR_MAX, FACTORS_MAX, LowRank, factors_bits
from edge_sdk.delta.numeric import ElementKind, exponents, kind_of
from edge_sdk.delta.prediction import Prediction
from edge_sdk.delta.strides import SourceRange
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberKind, cast

Matrix = NDArray[np.float32]

_FLOAT32 = NUMBER_KINDS["float32"]
# What sizes are raised to, so that keys (exponents) tell them finely enough. A float16 has few
# exponents, and is coded by keys of a bfloat16, which are finer.
_POWERS = {"float32": (1, 2), "bfloat16": (1, 2), "float16": (1,)}
_COUNT_MIN, _BAND_COUNT = 4 << 10, 4 << 20
_SIDE_MIN = 4
# Bits that a number costs more by a size that is wrong by an octave, about, and what chance
# adds to the square of such errors in the mean of one number.
_OCTAVE_BITS, _CHANCE = 0.7, 1.2
_FACTOR_BITS = 4
_HEAD_BITS = 8 * 48
_GAIN_BITS_MIN, _GAIN_SHARE_MIN = 1 << 7, 0.0002
_PRICED_COUNT, _PRICED_BLOCK = 1 << 16, 1 << 12
# Within these, powers and products are finite and not subnormal.
_SIZE_MIN, _SIZE_MAX = 1e-30, 1e15
# What a row's size is at least, of the mean.
_LEAST_SHARE = 2.0**-12
_LOOKED_BYTES = 64 << 10
# A look at so many places, and so many numbers there, tells what is a fine-tune.
_LOOKS, _LOOKED = 8, 512
_KEPT_SHARE = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """Sizes of rows and columns: their products are those of the numbers. ``gain_bits``: what
    they save, less what they cost, about."""

    rows: Values
    columns: Values
    gain_bits: float


class Magnitudes:
    """Finds such factors of one tensor after the other."""

    def __init__(self, source_files: Sequence[OpenFile], targets: Sampler) -> None:
        self._files = source_files
        self._targets = targets
        self._number = _finite_number(source_files)

    def find(self, target: LocatedTensor, known: AlignedRange | None = None) -> list[AlignedRange]:
        """The target in bands of which sizes are known; none where they are not worth it, or
        ``known``, a range of all of it, is better."""
        kind, count = number_kind(target), count_of(target)
        if self._number is None or kind is None or kind.name not in _POWERS or count < _COUNT_MIN:
            return []
        cuts = list(_cuts(target.tensor.shape, count))
        if not cuts or (known is not None and self._is_told(target, kind, known)):
            return []
        found: list[AlignedRange] = []
        for first, length in _bands(target.tensor.shape, count):
            at, size = first * kind.width_bytes, length * kind.width_bytes
            stored = np.frombuffer(self._targets.bytes_of(target, at, size), kind.storage)
            other = None if known is None else self._predicted(known.part(at, size), kind)
            values = _fitted(stored, kind, [one for one in cuts if length % one == 0], other)
            if values is None and known is not None:
                found.append(known.part(at, size))
            else:
                found.append(self._range(target, kind, (first, length), values))
        sized = any(one.prediction is not None and not one.is_predicted for one in found)
        return found if sized else []

    def _is_told(self, target: LocatedTensor, kind: NumberKind, known: AlignedRange) -> bool:
        """Whether many numbers keep the exponent of what predicts them: they were not trained
        anew."""
        width = kind.width_bytes
        kept, count = 0, 0
        for first in np.linspace(0, count_of(target) - _LOOKED, _LOOKS).astype(np.int64).tolist():
            part = self._predicted(known.part(first * width, _LOOKED * width), kind)
            data = self._targets.bytes_of(target, first * width, _LOOKED * width)
            element = kind_of(kind.name)
            assert element is not None
            before, after = (
                exponents(one.view(element.bits), element)
                for one in (part, np.frombuffer(data, kind.storage))
            )
            kept, count = kept + int(np.count_nonzero(before == after)), count + len(after)
        return kept > _KEPT_SHARE * count

    def _predicted(self, known: AlignedRange, kind: NumberKind) -> NDArray[np.generic]:
        length = known.end - known.start
        if known.prediction is None:
            data: bytes | bytearray = self._read_source(
                known.source_file, known.source_start, length
            )
        else:
            data = known.prediction.read(known.position, length, self._read_source)
        return np.frombuffer(data, kind.storage)

    def _read_source(self, file: int, offset: int, length: int) -> bytes:
        data = self._files[file].read(offset, length)
        # A file that became shorter meanwhile is found out where its chunks are read.
        return data + bytes(length - len(data))

    def _range(
        self,
        target: LocatedTensor,
        kind: NumberKind,
        band: tuple[int, int],
        values: LowRank | None,
    ) -> AlignedRange:
        start, length = band
        prediction = None
        if values is not None:
            assert self._number is not None
            file, offset = self._number
            held = SourceRange(file=file, offset=offset, length=4, dimensions=((length, 0),))
            prediction = Prediction(ranges=(held,), values=values)
        at = target.tensor.offset + start * kind.width_bytes
        return AlignedRange(
            start=at,
            end=at + length * kind.width_bytes,
            source_file=0,
            source_start=0,
            kind=kind_of(target.tensor.dtype),
            prediction=prediction,
            is_predicted=False,
        )


def _finite_number(files: Sequence[OpenFile]) -> tuple[int, int] | None:
    """File and offset of bytes that are a float32, whatever they are meant as."""
    for number, file in enumerate(files):
        data = file.read(0, min(_LOOKED_BYTES, file.size_bytes) & ~3)
        finite = np.flatnonzero(np.isfinite(np.frombuffer(data, "<f4")))
        if len(finite):
            return number, 4 * int(finite[0])
    return None


def _cuts(shape: tuple[int, ...], count: int) -> Iterator[int]:
    """Columns of each matrix that the tensor may be seen as."""
    if math.prod(shape) != count:
        return
    seen = set()
    for cut in range(1, len(shape)):
        columns = math.prod(shape[cut:])
        if columns not in seen and _SIDE_MIN <= columns <= COLUMNS_MAX:
            seen.add(columns)
            yield columns


def _bands(shape: tuple[int, ...], count: int) -> Iterator[tuple[int, int]]:
    """First number and count of each band, of whole items of the first axis, or of the next one
    that has none too large."""
    items = (math.prod(shape[axis:]) for axis in range(1, len(shape)))
    item = next(one for one in items if one <= _BAND_COUNT)
    length = _BAND_COUNT // item * item
    for first in range(0, count, length):
        yield first, min(length, count - first)


def _fitted(
    stored: NDArray[np.generic],
    kind: NumberKind,
    cuts: Sequence[int],
    other: NDArray[np.generic] | None,
) -> LowRank | None:
    """Factors that save something against ``other``, a prediction; None where none do."""
    sizes = np.abs(cast(stored, kind, _FLOAT32))
    sizes[~(sizes < _SIZE_MAX)] = 0
    mean = float(sizes.mean(dtype=np.float64))
    if not mean > _SIZE_MIN:
        return None
    sizes /= np.float32(mean)
    sides = (
        _sides(sizes.reshape(-1, columns))
        for columns in cuts
        if _SIDE_MIN <= len(sizes) // columns <= FACTORS_MAX - columns
    )
    best = max(sides, key=lambda one: one.gain_bits, default=None)
    if best is None or best.gain_bits <= 0:
        return None
    places = _priced_places(len(stored), len(best.columns))
    least = _cost_bits(kind, stored, places, other, alone=True)
    least -= max(_GAIN_BITS_MIN, _GAIN_SHARE_MIN * least)
    found = None
    for power in _POWERS[kind.name]:
        if mean**power < _SIZE_MIN:
            continue
        values = _rounded(best, kind, mean, power)
        made = values.apply(np.zeros(len(stored), "<f4").tobytes(), 0)
        bits = _cost_bits(kind, stored, places, np.frombuffer(made, kind.storage), alone=False)
        bits += factors_bits(values) + _HEAD_BITS
        if bits < least:
            least, found = bits, values
    return found


def _sides(sizes: Matrix) -> _Sides:
    rows, columns = sizes.shape
    of_rows: Values = np.clip(sizes.mean(axis=1, dtype=np.float64), _LEAST_SHARE, None)
    relative = sizes * (1 / of_rows).astype(np.float32)[:, None]
    of_columns: Values = np.clip(relative.mean(axis=0, dtype=np.float64), _LEAST_SHARE, None)
    gains = []
    for side, other in ((of_rows, columns), (of_columns, rows)):
        told = max(0.0, float(np.var(np.log2(side))) - _CHANCE / other)
        gains.append(_OCTAVE_BITS * sizes.size * told - _FACTOR_BITS * len(side))
    if gains[0] < 0:
        of_rows = np.ones(rows)
        of_columns = np.clip(sizes.mean(axis=0, dtype=np.float64), _LEAST_SHARE, None)
    if gains[1] < 0:
        of_columns = np.ones(columns)
    return _Sides(rows=of_rows, columns=of_columns, gain_bits=sum(max(0.0, one) for one in gains))


def _rounded(sides: _Sides, kind: NumberKind, mean: float, power: int) -> LowRank:
    """Factors as coarse as they may be: the more numbers one stands for, the finer."""
    whole, step = [], mean**power
    for side, other in ((sides.rows, sides.columns), (sides.columns, sides.rows)):
        raised = side**power
        usual = float(np.median(raised))
        unit = usual
        if raised.max() > raised.min():
            # As fine as is worth its bits.
            octaves = math.sqrt(12 / len(other))
            unit = max(
                min(usual * power * math.log(2) * octaves, usual),
                float(raised.max()) / FACTOR_MAX,
            )
        whole.append(np.clip(np.rint(raised / unit), 1, FACTOR_MAX).astype(np.int8).tobytes())
        step *= unit
    return LowRank(
        source=_FLOAT32,
        target=kind,
        rows=len(sides.rows),
        columns=len(sides.columns),
        gain=np.float32(0),
        step=np.float32(step),
        shifts=(0,),
        left=whole[0],
        right=whole[1],
    )


def _priced_places(count: int, columns: int) -> NDArray[np.int64]:
    """Numbers of some blocks of rows, from all over the matrix."""
    if count <= _PRICED_COUNT:
        return np.arange(count)
    block = -(-_PRICED_BLOCK // columns) * columns
    spread = np.linspace(0, count - block, max(1, _PRICED_COUNT // block))
    starts = spread.astype(np.int64) // columns * columns
    places: NDArray[np.int64] = (starts[:, None] + np.arange(block)).reshape(-1)
    return np.unique(places)


def _cost_bits(
    kind: NumberKind,
    stored: NDArray[np.generic],
    places: NDArray[np.int64],
    predicted: NDArray[np.generic] | None,
    *,
    alone: bool,
) -> float:
    element: ElementKind | None = kind_of(kind.name)
    assert element is not None
    found = best_fit(
        Fitter(
            kind=element,
            source=None if predicted is None else predicted[places].view(element.bits),
            target=stored[places].view(element.bits),
            lasting=len(places) < len(stored),
        ),
        alone=alone,
    )
    if found is None:
        return math.inf
    return found.payload_bits * len(stored) / len(places) + 8 * found.table_bytes
