"""A model file opened for reading, and what a format's reader gives back."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk.base import FormatError, UsageError, explain_os_error
from edge_sdk.formats.file_bytes import Bytes, FileBytes
from edge_sdk.formats.tensor_map import ModelFacts, TensorRange


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file's bytes, untouched, and read where they are asked for."""

    path: Path
    data: Bytes
    size_bytes: int

    def damaged(self, offset: int, what: str, **facts: object) -> FormatError:
        """The error that says where this file is not what it claims to be."""
        return FormatError(
            f"{self.path}: byte {offset}: {what}", file=str(self.path), offset=offset, **facts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a reader found. ``external_files``: size by path relative to the model's folder."""

    tensors: list[TensorRange]
    external_files: Mapping[str, int] = field(default_factory=dict)
    facts: ModelFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One model format.

    ``read`` answers None for a file that is not of this format, and raises FormatError for
    one that is, but damaged.
    """

    name: str
    read: Callable[[ModelFile], Contents | None]


@contextmanager
def open_file(path: Path) -> Iterator[ModelFile]:
    """A regular file, open while the block runs.

    Raises: NotFoundError, UsageError; UnavailableError from ``data``, where the file becomes
    shorter meanwhile.
    """
    try:
        # Asked before opening: opening a FIFO would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is not a regular file; name a model file")
        with path.open("rb", buffering=0) as stream:
            data = FileBytes(path, stream)
            yield ModelFile(path=path, data=data, size_bytes=data.size_bytes)
    except OSError as error:
        raise explain_os_error(error, path) from error
