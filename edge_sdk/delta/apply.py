"""Applies a delta on this machine: source proved first, target whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_sdk.base import (
    DeltaError,
    NotFoundError,
    ResourceError,
    WrongSourceError,
    file_digest,
    refuse_overlap,
    whole_file,
    whole_folder,
)
from edge_sdk.delta.container import (
    DEFAULT_MEMORY_LIMIT_BYTES,
    PREAMBLE_BYTES,
    FileRef,
    Header,
    parse_prefix,
    prefix_length,
)
from edge_sdk.delta.decoder import Decoder
from edge_sdk.delta.files import OpenFile, open_beneath, open_one
from edge_sdk.delta.prover import ExpectedFile, Prover
from edge_sdk.delta.varint import VARINT_BYTES_MAX, Cursor

_READ_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What ``apply`` made."""

    files: tuple[FileRef, ...]
    target_bytes: int
    delta_bytes: int


def apply(
    source: Path | None,
    delta: Path,
    target: Path,
    *,
    replace: bool = False,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Applied:
    """Makes ``target``, a file or a folder as the delta says, from ``source`` and ``delta``.

    Every source file is proved before anything is written and every target byte before the
    target gets its name. ``replace`` takes the place of what stands at ``target``.
    ``threads`` is how many may work at once, as far as memory allows. ``progress`` is told how
    many more bytes of the target are made.

    Raises: DeltaError, WrongSourceError, ProofError, NotFoundError, ConflictError (the
    target exists), UsageError, ResourceError.
    """
    refuse_overlap(target, (delta,))
    with naming(delta), open_one(delta, str(delta)) as container:
        header = read_header(container, memory_limit_bytes=memory_limit_bytes)
        _check_room(target, header.target_bytes)
        with ExitStack() as stack:
            sources = [stack.enter_context(_open_source(source, ref)) for ref in header.sources]
            for file, ref in zip(sources, header.sources, strict=True):
                _prove_source(file, ref, threads)
            streams = stack.enter_context(_open_target(header, target, replace=replace))
            job = _Application(sources, streams, header, progress)
            job.run(container, memory_limit_bytes, threads)
    return Applied(
        files=header.targets,
        target_bytes=header.target_bytes,
        delta_bytes=header.delta_bytes,
    )


@contextmanager
def naming(delta: Path) -> Iterator[None]:
    """What is wrong with a delta in this block names the file that it is in."""
    try:
        yield
    except DeltaError as error:
        if error.message.startswith((f"{delta} ", f"{delta}: ")):
            raise
        raise type(error)(f"{delta}: {error.message}", **error.facts) from error


def read_header(container: OpenFile, *, memory_limit_bytes: int) -> Header:
    """The header and index of a container. Raises: DeltaError."""
    preamble = container.read(0, PREAMBLE_BYTES)
    if len(preamble) < PREAMBLE_BYTES:
        raise DeltaError(f"{container.path} is truncated, or no delta")
    length = prefix_length(preamble)
    if length > memory_limit_bytes:
        stated = Cursor(container.read(PREAMBLE_BYTES, 2 * VARINT_BYTES_MAX), "the header")
        _flags, wanted = stated.varint(), stated.varint()
        raise DeltaError(
            f"{container.path} needs {wanted} bytes of memory, {length} of them for its header "
            f"and index; the limit is {memory_limit_bytes}",
            wanted=wanted,
            limit=memory_limit_bytes,
        )
    prefix = container.read(0, length)
    if len(prefix) < length:
        raise DeltaError(f"{container.path} is truncated")
    return parse_prefix(prefix)


class _Application:
    """Decoder, prover and files of one ``apply``."""

    def __init__(
        self,
        sources: list[OpenFile],
        streams: list[BinaryIO],
        header: Header,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._sources = sources
        self._streams = streams
        self._progress = progress
        self._prover = Prover(
            [
                ExpectedFile(size_bytes=file.size_bytes, digest=file.digest)
                for file in header.targets
            ]
        )

    def run(self, container: OpenFile, memory_limit_bytes: int, threads: int) -> None:
        decoder = Decoder(
            read_source=lambda file, offset, length: self._sources[file].read(offset, length),
            write=self._write,
            read_target=self._read_target,
            memory_limit_bytes=memory_limit_bytes,
            threads=threads,
        )
        at = 0
        while data := container.read(at, _READ_BYTES):
            decoder.feed(data)
            at += len(data)
        decoder.finish()
        self._prover.finish()

    def _read_target(self, file: int, offset: int, length: int) -> bytes:
        stream = self._streams[file]
        stream.seek(offset)
        data = stream.read(length)
        stream.seek(0, os.SEEK_END)
        return data

    def _write(self, file: int, offset: int, data: memoryview) -> None:
        self._prover.update(file, offset, data)
        self._streams[file].write(data)
        if self._progress is not None:
            self._progress(len(data))


@contextmanager
def _open_source(source: Path | None, ref: FileRef) -> Iterator[OpenFile]:
    if source is None:
        raise WrongSourceError(
            f"the delta needs a source, {ref.path!r}; it is not a whole", path=ref.path
        )
    with ExitStack() as stack:
        opener = open_beneath(source, ref.path) if source.is_dir() else open_one(source, ref.path)
        try:
            file = stack.enter_context(opener)
        except NotFoundError:
            if not source.exists():
                raise
            raise WrongSourceError(
                f"the source {source} has no file {ref.path!r}", path=ref.path
            ) from None
        yield file


def _prove_source(file: OpenFile, ref: FileRef, threads: int) -> None:
    alike = file.size_bytes == ref.size_bytes
    if alike and file_digest(file.chunk_digests(threads)) == ref.digest:
        return
    differs = (
        f"it has {file.size_bytes} bytes, the source {ref.size_bytes}"
        if file.size_bytes != ref.size_bytes
        else "its digest differs"
    )
    raise WrongSourceError(
        f"{file.shown} is not the source that the delta was made from: {differs}",
        path=ref.path,
    )


def _check_room(target: Path, wanted_bytes: int) -> None:
    """A few bytes of copies can fill any disk: told before anything is written."""
    folder = target.parent
    if folder.is_dir() and wanted_bytes > (free := shutil.disk_usage(folder).free):
        raise ResourceError(
            f"{target} would take {wanted_bytes} bytes; {free} are free there", short="disk"
        )


@contextmanager
def _open_target(header: Header, target: Path, *, replace: bool) -> Iterator[list[BinaryIO]]:
    if header.folder:
        with whole_folder(target, replace=replace) as folder, ExitStack() as files:
            yield [files.enter_context(_new_file(folder, ref.path)) for ref in header.targets]
    else:
        with whole_file(target, replace=replace) as stream:
            yield [stream]


def _new_file(folder: Path, path: str) -> BinaryIO:
    location = folder / path
    location.parent.mkdir(parents=True, exist_ok=True)
    return location.open("x+b")
