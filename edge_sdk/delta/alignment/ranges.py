"""What alignment answers with: ranges of the target and their predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from edge_sdk.delta.alignment.layouts import Layout
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.sampling import count_of, number_kind
from edge_sdk.delta.numeric import ElementKind, kind_of
from edge_sdk.delta.prediction import Prediction
from edge_sdk.delta.strides import SourceRange
from edge_sdk.delta.value_maps import NumberKind, NumberList, ValueMap

# With a factor and a zero point of each channel, a table of some 32 KiB.
CHANNELS_HERE_MAX = 5440


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedRange:
    """Target bytes ``start`` to ``end`` and what they are predicted from.

    ``kind`` is None where the bytes are no numbers. Without ``prediction`` they are predicted
    by as many source bytes from ``source_start`` on; otherwise by ``prediction`` from its
    byte ``position`` on. Where ``is_predicted`` is false nothing predicts them: only the kind
    is known, and by ``prediction``, if there is one, how large they are.
    """

    start: int
    end: int
    source_file: int
    source_start: int
    kind: ElementKind | None
    prediction: Prediction | None = None
    position: int = 0
    is_predicted: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether source bytes as they are predict it."""
        return self.is_predicted and self.prediction is None

    def part(self, at: int, length: int) -> AlignedRange:
        """Target bytes ``at`` to ``at + length`` of it, predicted as before."""
        start = self.start + at
        if self.prediction is not None:
            return replace(self, start=start, end=start + length, position=self.position + at)
        return replace(self, start=start, end=start + length, source_start=self.source_start + at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a source tensor predicts a target tensor. ``equal_share``: of a sample."""

    layout: Layout
    values: ValueMap | None
    equal_share: float


def mapped_ranges(source: LocatedTensor, target: LocatedTensor, fit: Fit) -> list[AlignedRange]:
    """The target predicted as ``fit`` says; in parts where one map cannot hold all factors."""
    kind = number_kind(source)
    assert kind is not None
    found = []
    for first, count, values in _parts(fit, count_of(target)):
        part = fit.layout.part(first, count)
        if part is None:
            return []
        offset, layout = part
        at = source.tensor.offset + offset * kind.width_bytes
        part_fit = Fit(layout=layout, values=values, equal_share=fit.equal_share)
        found.append(predicted_range(source.file, at, kind, target, part_fit, part=(first, count)))
    return found


def predicted_range(
    file: int,
    offset: int,
    kind: NumberKind,
    target: LocatedTensor,
    fit: Fit,
    *,
    part: tuple[int, int] | None = None,
) -> AlignedRange:
    """The target, or first number and count of a part, from numbers at an offset of a file."""
    to_kind = number_kind(target)
    assert to_kind is not None
    first, count = part or (0, count_of(target))
    held = fit.layout.source_range(file, offset, kind.width_bytes)
    start = target.tensor.offset + first * to_kind.width_bytes
    plain = fit.values is None and not held.dimensions
    return AlignedRange(
        start=start,
        end=start + count * to_kind.width_bytes,
        source_file=file,
        source_start=offset,
        kind=kind_of(target.tensor.dtype),
        prediction=None if plain else Prediction(ranges=(held,), values=fit.values),
    )


def _parts(fit: Fit, count: int) -> Iterator[tuple[int, int, ValueMap | None]]:
    """First number and count of each part, and its map."""
    values = fit.values
    if values is None or values.channels <= CHANNELS_HERE_MAX:
        yield 0, count, values
        return
    if values.channels * values.inner != count:
        return  # such factors repeat: they cannot be parted
    for first in range(0, values.channels, CHANNELS_HERE_MAX):
        channels = min(CHANNELS_HERE_MAX, values.channels - first)
        part = replace(
            values,
            channels=channels,
            factors=_listed_part(values.factors, first, channels),
            zeros=_listed_part(values.zeros, first, channels),
        )
        yield first * values.inner, channels * values.inner, part


def _listed_part(numbers: NumberList | None, first: int, channels: int) -> NumberList | None:
    if numbers is None:
        return None
    width, content = numbers.kind.width_bytes, numbers.content
    if isinstance(content, SourceRange):
        at = content.offset + first * width
        content = replace(content, offset=at, length=channels * width)
    else:
        content = content[first * width : (first + channels) * width]
    return replace(numbers, content=content)
