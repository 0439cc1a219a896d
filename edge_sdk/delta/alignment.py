"""Which tensor of the source each tensor of the target is compared with.

By path, name, dtype and shape; then without the path; what is left by its content, since
exporters rename; and then by its order within dtype and shape. A wrong guess costs bytes,
never a wrong result.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.base import CHUNK_BYTES, FormatError
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.numeric import ElementKind, kind_of
from edge_sdk.formats import TensorMap, TensorRange, open_model


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedTensor:
    """A tensor with the number of the artifact's file that holds its bytes."""

    file: int
    path: str
    tensor: TensorRange

    @property
    def end(self) -> int:
        return self.tensor.offset + self.tensor.length


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedRange:
    """Target bytes ``start`` to ``end`` and where they are predicted from.

    ``kind`` is None where the bytes are no numbers.
    """

    start: int
    end: int
    source_file: int
    source_start: int
    kind: ElementKind | None


def locate_tensors(root: Path, paths: Sequence[str]) -> list[LocatedTensor]:
    """The tensors of an artifact, in file order. What cannot be read as a model has none."""
    # A single file may be called otherwise in the delta than here.
    names = paths if root.is_dir() else [root.name]
    numbers = {name: number for number, name in enumerate(names)}
    found = []
    for base, opened in _open_maps(root, paths):
        # An opaque file is one range of bytes: content matching serves it better.
        for tensor in opened.tensors if opened.format != "opaque" else ():
            path = f"{base}{tensor.file}"
            if path in numbers and tensor.length:
                number = numbers[path]
                found.append(LocatedTensor(file=number, path=paths[number], tensor=tensor))
    return sorted(found, key=lambda one: (one.file, one.tensor.offset, one.tensor.name))


def _open_maps(root: Path, paths: Sequence[str]) -> Iterator[tuple[str, TensorMap]]:
    """Each model of an artifact with the folder it lies in, written ``""`` or ``folder/``."""
    if not root.is_dir():
        with suppress(FormatError):
            yield "", open_model(root)
        return
    for path in paths:
        # One that is damaged or hostile travels as bytes; the others keep their tensors.
        with suppress(FormatError):
            folder, slash, _ = path.rpartition("/")
            yield folder + slash, open_model(root / path)


def align(
    sources: Sequence[LocatedTensor],
    targets: Sequence[LocatedTensor],
    *,
    source_files: Sequence[OpenFile],
    target_files: Sequence[OpenFile],
) -> dict[int, list[AlignedRange]]:
    """For each target file the ranges that have a counterpart, sorted, not overlapping."""
    pairs: dict[int, LocatedTensor] = {}
    free = dict(enumerate(sources))
    for key in (_by_path, _by_name):
        _pair(free, targets, pairs, key, key)
    _pair(free, targets, pairs, _by_content(source_files), _by_content(target_files))
    _pair(free, targets, pairs, _by_form, _by_form)
    ranges: dict[int, list[AlignedRange]] = defaultdict(list)
    for number, target in enumerate(targets):
        source = pairs.get(number)
        known = ranges[target.file]
        start = known[-1].end if known else 0
        if source is not None and target.tensor.offset >= start:
            known.append(_range(source, target))
    return ranges


Key = Callable[[LocatedTensor], Hashable]


def _pair(
    free: dict[int, LocatedTensor],
    targets: Sequence[LocatedTensor],
    pairs: dict[int, LocatedTensor],
    source_key: Key,
    target_key: Key,
) -> None:
    """Pairs what is not paired yet with the first free source of the same key."""
    unpaired = {number: target for number, target in enumerate(targets) if number not in pairs}
    forms = {_by_form(target) for target in unpaired.values()}
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for number, source in reversed(free.items()):
        if _by_form(source) in forms:  # keys by content cost a read
            waiting[source_key(source)].append(number)
    forms = {_by_form(free[number]) for numbers in waiting.values() for number in numbers}
    for number, target in unpaired.items():
        candidates = waiting.get(target_key(target)) if _by_form(target) in forms else None
        if candidates:
            pairs[number] = free.pop(candidates.pop())


def _by_content(files: Sequence[OpenFile]) -> Key:
    def key(one: LocatedTensor) -> Hashable:
        content = hashlib.sha256()
        for at in range(one.tensor.offset, one.end, CHUNK_BYTES):
            content.update(files[one.file].read(at, min(CHUNK_BYTES, one.end - at)))
        return content.digest(), _by_form(one)

    return key


def _by_form(one: LocatedTensor) -> Hashable:
    return one.tensor.dtype, tuple(one.tensor.shape), one.tensor.length


def _by_name(one: LocatedTensor) -> Hashable:
    return one.tensor.name, _by_form(one)


def _by_path(one: LocatedTensor) -> Hashable:
    return one.path, _by_name(one)


def _range(source: LocatedTensor, target: LocatedTensor) -> AlignedRange:
    return AlignedRange(
        start=target.tensor.offset,
        end=target.end,
        source_file=source.file,
        source_start=source.tensor.offset,
        kind=kind_of(target.tensor.dtype),
    )
