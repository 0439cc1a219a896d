"""Training steps that are alike in whole rows and columns: found, and taken into predictions.

A step of training adds to a matrix a sum of few products of a column and a row, so the
difference of two versions that are not far apart is a matrix of low rank and some noise. Its
first components are found by subspace iteration, in bands of bounded size, rounded no finer
than the noise deserves, and kept as long as they save more than they cost on a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.ranges import AlignedRange
from edge_sdk.delta.alignment.sampling import Sampler, count_of, number_kind
from edge_sdk.delta.coder.fit import Fitter
from edge_sdk.delta.coder.leaning import (
    Leans,
    leaning_kind,
    standing_source,
    standing_target,
)
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.low_rank import (
    COLUMNS_MAX,
    FACTOR_MAX,
    FACTORS_MAX,
    LowRank,
    factors_bits,
)
from edge_sdk.delta.numeric import kind_of
from edge_sdk.delta.prediction import Prediction
from edge_sdk.delta.products import product
from edge_sdk.delta.strides import SourceRange
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberKind, cast

Matrix = NDArray[np.float32]

_KINDS = ("float16", "bfloat16", "float32", "int8", "uint8", "int16", "uint16")
_FLOAT32 = NUMBER_KINDS["float32"]
# Numbers of a tensor for which this is looked for, and of a band.
_COUNT_MIN, _BAND_COUNT = 4 << 10, 4 << 20
_SIDE_MIN = 8
_RANKS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32)
_SPARE_RANKS, _ITERATIONS = 8, 2
# A look at so many rows and columns tells whether there may be anything.
_LOOK_ROWS, _LOOK_COLUMNS = 96, 384
# What the first component must be, of what chance alone would make it.
_FIRST_SHARE = 1.5
_PRICED_COUNT = 1 << 16
_GAIN_BITS_MIN, _GAIN_SHARE_MIN = 1 << 10, 0.004
_SHIFT_MAX = 5
# A gain is told by what of the source is apart from all components, if that is not too little,
# and taken where it explains so much of what they leave.
_APART_MIN, _GAIN_TOLD_MIN = 0.01, 0.01
# So many ranks in a row may be no better before others are given up.
_WORSE_MAX = 2
_HEAD_BITS = 8 * 48


@dataclass(frozen=True, slots=True, kw_only=True)
class _Components:
    """Unit vectors of shapes (rank, rows) and (rank, columns), the largest first.

    ``left_over``: the sum of squares without the first components, by how many.
    """

    sizes: NDArray[np.float64]
    left: Matrix
    right: Matrix
    left_over: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    """``rows`` rows of a matrix, from ``first`` on."""

    first: int
    rows: int
    columns: int


class Trained:
    """Finds such steps of one tensor after the other."""

    def __init__(
        self, source_files: Sequence[OpenFile], source_sampler: Sampler, target_sampler: Sampler
    ) -> None:
        self._files = source_files
        self._sources = source_sampler
        self._targets = target_sampler

    def find(
        self, source: LocatedTensor, target: LocatedTensor, known: list[AlignedRange]
    ) -> list[AlignedRange]:
        """The target in bands, predicted by steps of low rank where that is better than
        ``known``. Source and target are to hold as many numbers in one order."""
        kind, shape = number_kind(target), _matrix(target.tensor.shape, count_of(target))
        if kind is None or kind.name not in _KINDS or kind != number_kind(source):
            return known
        if len(known) > 1 or shape is None or not self._promises(source, target, kind, shape):
            return known
        found = [self._band(source, target, kind, known[0], band) for band in _bands(*shape)]
        return found if any(one.prediction != known[0].prediction for one in found) else known

    def _promises(
        self,
        source: LocatedTensor,
        target: LocatedTensor,
        kind: NumberKind,
        shape: tuple[int, int],
    ) -> bool:
        """Whether some rows and columns have a first component that chance does not make."""
        rows, columns = shape
        some_rows = np.linspace(0, rows - 1, min(rows, _LOOK_ROWS)).astype(np.int64)
        count = min(columns, _LOOK_COLUMNS)
        places = (some_rows[:, None] * columns + np.arange(count)).reshape(-1)
        before, after = self._sources.raw(source, places), self._targets.raw(target, places)
        step = _step(before, after, kind).reshape(-1, count)
        small, large = sorted(step.shape)
        by_chance = (1 + math.sqrt(small / large)) ** 2 / small
        gram = product(step, step.T) if len(step) == small else product(step.T, step)
        squares = np.linalg.eigvalsh(gram.astype(np.float64))
        return bool(squares[-1] > _FIRST_SHARE * by_chance * squares.sum())

    def _band(
        self,
        source: LocatedTensor,
        target: LocatedTensor,
        kind: NumberKind,
        known: AlignedRange,
        band: _Band,
    ) -> AlignedRange:
        """The band predicted as ``known`` does, or better."""
        at, length = (count * band.columns * kind.width_bytes for count in (band.first, band.rows))
        parts = [self._sources.bytes_of(source, at, length)]
        parts += [self._targets.bytes_of(target, at, length)]
        known = known.part(at, length)
        if known.prediction is not None:
            parts += [bytes(known.prediction.read(known.position, length, self._read_source))]
        shape = band.rows, band.columns
        values = _fitted([np.frombuffer(one, kind.storage).reshape(shape) for one in parts], kind)
        if values is None:
            return known
        start = source.tensor.offset + at
        held = SourceRange(file=source.file, offset=start, length=length)
        return AlignedRange(
            start=known.start,
            end=known.end,
            source_file=source.file,
            source_start=start,
            kind=known.kind,
            prediction=Prediction(ranges=(held,), values=values),
        )

    def _read_source(self, file: int, offset: int, length: int) -> bytes:
        data = self._files[file].read(offset, length)
        # A file that became shorter meanwhile is found out where its chunks are read.
        return data + bytes(length - len(data))


def _matrix(shape: tuple[int, ...], count: int) -> tuple[int, int] | None:
    """Rows and columns, of all cuts between two axes the one with the fewest together."""
    if count < _COUNT_MIN or math.prod(shape) != count:
        return None
    cuts = [math.prod(shape[:cut]) for cut in range(1, len(shape))]
    sides = [(rows, count // rows) for rows in cuts if count // rows <= COLUMNS_MAX]
    return min((one for one in sides if min(one) >= _SIDE_MIN), key=sum, default=None)


def _bands(rows: int, columns: int) -> Iterator[_Band]:
    height = math.ceil(rows / math.ceil(rows * columns / _BAND_COUNT))
    for first in range(0, rows, height):
        yield _Band(first=first, rows=min(height, rows - first), columns=columns)


def _numbers(stored: NDArray[np.generic], kind: NumberKind) -> Matrix:
    if kind.is_float:
        numbers: Matrix = cast(stored, kind, _FLOAT32)
        return numbers
    return stored.astype(np.float32)


def _step(
    before: NDArray[np.generic], after: NDArray[np.generic], kind: NumberKind, gain: float = 1.0
) -> Matrix:
    """From before, times a gain, to after; 0 where that is not finite."""
    with np.errstate(all="ignore"):
        step = _numbers(after, kind) - _numbers(before, kind) * np.float32(gain)
        # Sums of squares stay finite.
        step[~(np.abs(step) < 1e15)] = 0
    return step


def _fitted(parts: Sequence[NDArray[np.generic]], kind: NumberKind) -> LowRank | None:
    """The map that saves most on a sample; None where none saves enough.

    ``parts``: source and target, of shape (rows, columns), and what else predicts the target.
    """
    before, after, known = parts[0], parts[1], parts[-1] if len(parts) > 2 else parts[0]
    step = _step(before, after, kind)
    scale = float(np.sqrt(np.mean(np.square(step), dtype=np.float64)))
    if not 1e-30 < scale < 1e15:
        return None
    unit = 2.0 ** round(math.log2(scale))
    components = _components(step * np.float32(1 / unit))
    gain = _gain(_step(np.zeros_like(before), before, kind), step, components, unit)
    if gain != 1:
        step = _step(before, after, kind, gain)
        components = _components(step * np.float32(1 / unit))
    rows, columns = step.shape
    sampled = np.linspace(0, rows - 1, min(rows, max(1, _PRICED_COUNT // columns)))
    chosen = np.unique(sampled.astype(np.int64))
    price = _Price(kind=kind, target=after[chosen].reshape(-1), share=len(chosen) / rows)
    none = price.bits(known[chosen].reshape(-1))
    best, least = None, none - max(_GAIN_BITS_MIN, _GAIN_SHARE_MIN * none)

    def tried(rank: int, coarser: int) -> tuple[float, LowRank] | None:
        one = _rounded(components, rank, kind, step.shape, (gain, unit, coarser))
        if one is None:
            return None
        exact = one.moved(before[chosen].reshape(-1), one.sums_of_rows(chosen))
        bits = price.bits(exact.rounded(kind), exact.leans(kind))
        return bits + factors_bits(one) + _HEAD_BITS, one

    worse = 0
    for rank in _RANKS:
        found = tried(rank, 0)
        if found is None or worse > _WORSE_MAX:
            break
        worse = 0 if found[0] < least else worse + 1
        if found[0] < least:
            least, best = found
    found = tried(len(best.shifts), 1) if best is not None else None
    return found[1] if found is not None and found[0] < least else best


@dataclass(frozen=True, slots=True, kw_only=True)
class _Price:
    """What a target costs by its predictions, from a ``share`` of it."""

    kind: NumberKind
    target: NDArray[np.generic]
    share: float

    def bits(self, predicted: NDArray[np.generic], leans: Leans | None = None) -> float:
        kind = kind_of(self.kind.name)
        assert kind is not None
        source, target = predicted.view(kind.bits), self.target.view(kind.bits)
        if leans is not None:
            target = standing_target(kind, source, target, leans)
            source = standing_source(kind, source, leans)
            kind = leaning_kind(kind)
        one = Fitter(kind=kind, source=source, target=target, lasting=False)
        return one.least_bits() / self.share


def _components(step: Matrix) -> _Components:
    """The first components, by subspace iteration from a fixed start."""
    rows, columns = step.shape
    wanted = min(_RANKS[-1] + _SPARE_RANKS, rows, columns)
    start = np.random.default_rng(5).standard_normal((columns, wanted), np.float32)
    basis = _orthonormal(product(step, start))
    for _ in range(_ITERATIONS):
        basis = _orthonormal(product(step, _orthonormal(product(step.T, basis))))
    inner = product(step.T, basis).T
    squares, turned = _eigen(product(inner, inner.T))
    sizes = np.sqrt(squares)
    total = float(np.sum(np.square(step), dtype=np.float64))
    left_over = np.maximum(total - np.concatenate([[0.0], np.cumsum(squares)]), 1e-6 * total)
    unit = np.asarray(turned / sizes, np.float32)
    return _Components(
        sizes=sizes,
        left=product(basis, turned).T,
        right=product(unit.T, inner),
        left_over=left_over,
    )


def _gain(numbers: Matrix, step: Matrix, components: _Components, unit: float) -> float:
    """What the source is to be multiplied by, where that explains much of what the components
    leave: a scale of quantised numbers that changed, or decay."""
    left, right = components.left, components.right
    apart = numbers - product(left.T, product(left, numbers))
    apart -= product(product(apart, right.T), right)
    own = float(np.sum(np.square(apart), dtype=np.float64))
    if own < _APART_MIN * float(np.sum(np.square(numbers), dtype=np.float64)):
        return 1.0
    change = float(np.sum(apart * step, dtype=np.float64)) / own
    told = change**2 * own
    return 1.0 + change if told > _GAIN_TOLD_MIN * components.left_over[-1] * unit**2 else 1.0


def _eigen(gram: Matrix) -> tuple[NDArray[np.float64], Matrix]:
    """The values that are not next to nothing, the largest first, and their vectors (columns);
    none where all is nothing."""
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    kept = np.flatnonzero(values > 1e-6 * values.max(initial=0.0))[::-1]
    return values[kept], vectors[:, kept].astype(np.float32)


def _orthonormal(columns: Matrix) -> Matrix:
    """Columns that span the same."""
    squares, vectors = _eigen(product(columns.T, columns))
    unit = np.asarray(vectors / np.sqrt(squares), np.float32)
    return product(columns, unit)


def _rounded(
    components: _Components,
    rank: int,
    kind: NumberKind,
    shape: tuple[int, int],
    scales: tuple[float, float, int],
) -> LowRank | None:
    """The first components as a map: factors rounded so that it costs as much as finer ones.

    ``scales``: the gain, what the components are in units of, and how often the products of two
    factors are to stand for twice as much. None where there are not so many."""
    rows, columns = shape
    gain, unit, coarser = scales
    if rank > min(len(components.sizes), min(shape) // 2, FACTORS_MAX // (rows + columns)):
        return None
    # Rounding a unit vector's numbers to multiples of q adds q**2 / 12 for each to the noise.
    noise = components.left_over[rank] / (rows * columns)
    exponents, left, right = [], [], []
    for k in range(rank):
        size = max(float(components.sizes[k]), 1e-12)
        exponent = math.floor(math.log2(12 * noise / size)) + coarser
        largest = max(np.abs(components.left[k]).max(), np.abs(components.right[k]).max())
        # The product of two factors stands for 2**exponent.
        while largest * math.sqrt(size / 2.0**exponent) > FACTOR_MAX:
            exponent += 1
        exponents.append(exponent)
    lowest = min(exponents)
    shifts = tuple(min(one - lowest, _SHIFT_MAX) for one in exponents)
    for k, shift in enumerate(shifts):
        finer = math.sqrt(max(float(components.sizes[k]), 1e-12) / 2.0 ** (lowest + shift))
        left.append(_whole(components.left[k] * finer))
        right.append(_whole(components.right[k] * finer))
    return LowRank(
        source=kind,
        target=kind,
        rows=rows,
        columns=columns,
        gain=np.float32(gain),
        step=np.float32(unit * 2.0**lowest),
        shifts=shifts,
        left=b"".join(left),
        right=b"".join(right),
    )


def _whole(numbers: Matrix) -> bytes:
    return np.clip(np.rint(numbers), -FACTOR_MAX, FACTOR_MAX).astype(np.int8).tobytes()
