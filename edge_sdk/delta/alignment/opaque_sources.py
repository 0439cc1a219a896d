"""Tensors of the target that stand, in another order or width, in a source nobody can read.

The views of regions.py the other way round: of what the target's tensors may have been, found
by content in the opaque files of the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.delta.alignment.layouts import merged, row_major
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.ranges import AlignedRange, Fit, predicted_range
from edge_sdk.delta.alignment.sampling import number_kind
from edge_sdk.delta.alignment.views import ReadView, View, tensor_views
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.matching import SourceIndex
from edge_sdk.delta.value_maps import Operation, ValueMap

_TENSOR_BYTES_MIN = 512
_SOURCE_BYTES_MAX = 128 << 20
_VIEWS_BYTES_MAX = 256 << 20
_FOUND_SHARE_MIN = 0.5


def find_in_opaque(
    files: Sequence[OpenFile],
    opaque: Sequence[int],
    targets: Sequence[LocatedTensor],
    target_files: Sequence[OpenFile],
) -> Iterator[tuple[LocatedTensor, AlignedRange]]:
    """Tensors with their ranges; each once. ``opaque``: numbers of source files."""
    source_bytes = sum(files[number].size_bytes for number in opaque)
    views = list(_views(targets)) if 0 < source_bytes <= _SOURCE_BYTES_MAX else []
    if not views:
        return
    index = SourceIndex([ReadView(view, target_files) for _, view in views])
    found: Counter[tuple[int, int, int]] = Counter()  # file, view and where it begins: bytes
    for file in opaque:
        for at in range(0, files[file].size_bytes, CHUNK_BYTES):
            for match in index.matches(files[file].read(at, CHUNK_BYTES)):
                start = at + match.start - match.source_start
                found[file, match.source_file, start] += match.end - match.start
    done: set[tuple[int, int]] = set()
    for (file, number, start), count in sorted(found.items(), key=lambda one: (-one[1], one[0])):
        target, view = views[number]
        key = (target.file, target.tensor.offset)
        inside = 0 <= start <= files[file].size_bytes - view.size_bytes
        if key not in done and inside and count >= _FOUND_SHARE_MIN * view.size_bytes:
            done.add(key)
            yield target, _range(file, start, target, view)


def _views(targets: Sequence[LocatedTensor]) -> Iterator[tuple[LocatedTensor, View]]:
    left_bytes = _VIEWS_BYTES_MAX
    for target in targets:
        for view in tensor_views(target):
            if _TENSOR_BYTES_MIN <= view.size_bytes <= left_bytes:
                left_bytes -= view.size_bytes
                yield target, view


def _range(file: int, start: int, target: LocatedTensor, view: View) -> AlignedRange:
    """The target from the bytes of the source that are the view."""
    kind = number_kind(target)
    assert kind is not None
    (held,) = view.prediction.ranges
    made = view.prediction.values
    width = kind.width_bytes
    # Counts and strides, in numbers of the target, of the view's axes.
    axes = [(count, stride // width) for count, stride in held.dimensions]
    axes.append((held.length // width, 1))
    strides = row_major([count for count, _ in axes])
    order = sorted(range(len(axes)), key=lambda axis: -axes[axis][1])
    layout = merged([(axes[axis][0], strides[axis]) for axis in order])
    values = None
    if made is not None:
        values = ValueMap(operation=Operation.CAST, source=made.target, target=made.source)
    source_kind = made.target if made is not None else kind
    fit = Fit(layout=layout, values=values, equal_share=1.0)
    return predicted_range(file, start, source_kind, target, fit)
