"""The tensors of an artifact and where their bytes lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.base import FormatError
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
