"""Where a delta is computed: chunk by chunk, in bounded memory, the same bytes every time.

Each chunk of a target file is cut into pieces: tensors that have a counterpart in the source
(alignment), and the bytes between. A piece that the source holds as it is becomes a copy,
other numbers a residual, other bytes a dictionary or literal record, whatever is smallest.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edge_sdk.base import CHUNK_BYTES, Digest, UnavailableError, UsageError, file_digest
from edge_sdk.delta.alignment import AlignedRange, align, locate_tensors
from edge_sdk.delta.choose import RECORD_OVERHEAD_BYTES, Candidate, Chooser, window_around
from edge_sdk.delta.container import DEFAULT_MEMORY_LIMIT_BYTES, FileRef
from edge_sdk.delta.files import OpenFile, open_tree
from edge_sdk.delta.matching import SourceIndex, equal_runs
from edge_sdk.delta.methods import NAMES, REGISTRY
from edge_sdk.delta.prediction import SourceRange
from edge_sdk.delta.records import Place
from edge_sdk.delta.writer import ContainerWriter, MethodUse

Progress = Callable[[int], None]

# A copy inside other bytes costs its own record and splits theirs.
_COPY_BYTES_MIN = 192
# Neighbours of at most this size are coded as one.
_JOINED_BYTES_MAX = 512
# A piece of this size or less counts as small: many of them are better coded together.
_SMALL_PIECE_BYTES = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaSummary:
    """What ``encode`` made. ``methods`` counts by method, table records as ``table``."""

    source_bytes: int
    target_bytes: int
    delta_bytes: int
    memory_bytes: int
    methods: Mapping[str, MethodUse]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes ``start`` to ``end`` of a chunk.

    ``copy_from``: the source position that holds them as they are. ``aligned``: the tensor
    that predicts them, also where they are copied. ``near``: a source position where
    something alike is likely.
    """

    start: int
    end: int
    copy_from: tuple[int, int] | None = None
    aligned: AlignedRange | None = None
    near: tuple[int, int] | None = None

    @property
    def length(self) -> int:
        return self.end - self.start


def encode(
    source: Path | None,
    target: Path,
    out: BinaryIO,
    *,
    methods: Collection[str] = NAMES,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
    progress: Progress | None = None,
) -> DeltaSummary:
    """Writes the delta that turns the files of ``source`` into those of ``target``.

    Each is a file or a folder; ``source`` None makes a whole. ``methods`` that this release
    does not know are passed over; ``literal`` is always needed. ``memory_limit_bytes`` is
    that of the decoder. ``progress`` is told how many more bytes of the target are done.

    Raises: NotFoundError, FormatError (links, impossible names), UsageError (no file, too
    small a limit, no ``literal``), UnavailableError (a file changed meanwhile).
    """
    with ExitStack() as stack:
        sources = stack.enter_context(open_tree(source)) if source is not None else ()
        targets = stack.enter_context(open_tree(target))
        folder = Path(getattr(out, "name", "") or ".").parent if _named(out) else None
        spool = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        job = _Encoding(sources, targets, spool, _usable(methods, memory_limit_bytes))
        if source is not None:
            job.align(
                align(
                    locate_tensors(source, [file.path for file in sources]),
                    locate_tensors(target, [file.path for file in targets]),
                    source_files=sources,
                    target_files=targets,
                )
            )
        job.run(progress or (lambda _count: None))
        delta_bytes, memory_bytes = job.writer.finish(
            out, folder=target.is_dir(), memory_limit_bytes=memory_limit_bytes
        )
    return DeltaSummary(
        source_bytes=sum(file.size_bytes for file in sources),
        target_bytes=sum(file.size_bytes for file in targets),
        delta_bytes=delta_bytes,
        memory_bytes=memory_bytes,
        methods=job.writer.uses,
    )


def _named(out: BinaryIO) -> bool:
    """Whether ``out`` is a file with a folder: the spool goes there and not to a small /tmp."""
    name = getattr(out, "name", None)
    return isinstance(name, str) and Path(name).is_file()


def _usable(names: Collection[str], memory_limit_bytes: int) -> frozenset[int]:
    """Numbers of the methods that were asked for and that the limit allows."""
    largest = CHUNK_BYTES + (64 << 10)
    numbers = {
        method.number
        for method in REGISTRY.values()
        if method.name in names
        and method.memory_bytes(CHUNK_BYTES, largest) + (1 << 20) <= memory_limit_bytes
    }
    literal = next(method for method in REGISTRY.values() if method.name == "literal")
    if "literal" not in names:
        raise UsageError("no delta can be made without the method 'literal'")
    if literal.number not in numbers:
        raise UsageError(f"no delta can be decoded in {memory_limit_bytes} bytes of memory")
    return frozenset(numbers)


@dataclass(slots=True)
class _Shift:
    """Where the source was last found to run beside the target: a guess for what follows."""

    file: int | None = None
    distance: int = 0  # source offset minus target offset

    def at(self, offset: int) -> tuple[int, int] | None:
        if self.file is None or offset + self.distance < 0:
            return None
        return self.file, offset + self.distance


class _Encoding:
    """One run of ``encode``."""

    def __init__(
        self,
        sources: Sequence[OpenFile],
        targets: Sequence[OpenFile],
        spool: BinaryIO,
        methods: frozenset[int],
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._target_chunks = [file.chunk_digests() for file in targets]
        source_digests = [file_digest(file.chunk_digests()) for file in sources]
        self._methods = methods
        self._copies = any(REGISTRY[number].name == "copy" for number in methods)
        self._ranges: dict[int, list[AlignedRange]] = {}
        self._index: SourceIndex | None = None
        self._source_refs = [
            FileRef(path=file.path, size_bytes=file.size_bytes, digest=digest)
            for file, digest in zip(sources, source_digests, strict=True)
        ]
        target_refs = [
            FileRef(path=file.path, size_bytes=file.size_bytes, digest=file_digest(chunks))
            for file, chunks in zip(targets, self._target_chunks, strict=True)
        ]
        self._target_refs = target_refs
        self.writer = ContainerWriter(spool, self._source_refs, target_refs)
        self._chooser = Chooser(methods, self._read_source)
        self._shift = _Shift()

    def align(self, ranges: dict[int, list[AlignedRange]]) -> None:
        self._ranges = ranges

    def run(self, progress: Progress) -> None:
        for number, file in enumerate(self._targets):
            same = self._same_file(number)
            if same is not None:
                place = Place(file=number, offset=0, length=file.size_bytes)
                self.writer.copy(place, same, 0)
                progress(file.size_bytes)
                continue
            self._shift = self._first_guess(file)
            for chunk, digest in enumerate(self._target_chunks[number]):
                data = file.read(chunk * CHUNK_BYTES, CHUNK_BYTES)
                if Digest.of(data) != digest:
                    raise UnavailableError(
                        f"{file.path!r} changed while it was read; run it again when it rests"
                    )
                self._chunk(number, chunk * CHUNK_BYTES, data)
                progress(len(data))

    def _same_file(self, number: int) -> int | None:
        """The source file that is this target file, whatever it is called."""
        wanted = self._target_refs[number]
        if not self._copies or not wanted.size_bytes:
            return None
        same = [
            source
            for source, ref in enumerate(self._source_refs)
            if (ref.size_bytes, ref.digest) == (wanted.size_bytes, wanted.digest)
        ]
        return same[0] if same else None

    def _first_guess(self, file: OpenFile) -> _Shift:
        """The source file that a target file was probably made from."""
        if not self._sources:
            return _Shift()
        suffix = Path(file.path).suffix

        def likeness(number: int) -> tuple[bool, bool, int]:
            other = self._sources[number]
            closeness = -abs(other.size_bytes - file.size_bytes)
            return other.path == file.path, Path(other.path).suffix == suffix, closeness

        return _Shift(file=max(range(len(self._sources)), key=likeness))

    def _read_source(self, file: int, offset: int, length: int) -> bytes:
        return self._sources[file].read(offset, length)

    # --- one chunk --------------------------------------------------------------------

    def _chunk(self, number: int, base: int, data: bytes) -> None:
        """Writes the records of one chunk, which begins at ``base`` of its file."""
        pieces = list(_join_small(_join_tensors(self._pieces(number, base, data))))
        choices = [
            (piece, None if piece.copy_from else self._choose(number, base, data, piece))
            for piece in pieces
        ]
        together = self._together(number, base, data, choices)
        if together is not None:
            self._put(together)
            return
        for piece, choice in choices:
            if choice is not None:
                self._put(choice)
            elif piece.copy_from is not None:
                place = Place(file=number, offset=base + piece.start, length=piece.length)
                self.writer.copy(place, *piece.copy_from)

    def _put(self, choice: Candidate) -> None:
        if choice.table is not None:
            self.writer.table(choice.table)
        self.writer.record(choice.method, choice.place, choice.tail)

    def _choose(self, number: int, base: int, data: bytes, piece: Piece) -> Candidate:
        place = Place(file=number, offset=base + piece.start, length=piece.length)
        part = data[piece.start : piece.end]
        if piece.aligned is not None:
            aligned = piece.aligned
            at = aligned.source_start + place.offset - aligned.start
            source = self._read_source(aligned.source_file, at, piece.length)
            if len(source) == piece.length:
                return self._chooser.numbers(place, part, source, aligned)
        return self._chooser.bytes_(place, part, self._window(piece))

    def _window(self, piece: Piece) -> SourceRange | None:
        if piece.near is None:
            return None
        file, start = piece.near
        return window_around(file, self._sources[file].size_bytes, start, piece.length)

    def _together(
        self,
        number: int,
        base: int,
        data: bytes,
        choices: Sequence[tuple[Piece, Candidate | None]],
    ) -> Candidate | None:
        """One record for the whole chunk, where many small ones cost more."""
        coded = [choice for _, choice in choices if choice is not None]
        small = sum(piece.length <= _SMALL_PIECE_BYTES for piece, _ in choices)
        if not coded or len(choices) < 3 or small * 2 < len(choices):
            return None
        cost = sum(choice.cost_bytes for choice in coded)
        cost += RECORD_OVERHEAD_BYTES * (len(choices) - len(coded))
        near = next((near for piece, _ in choices if (near := _source_of(piece))), None)
        whole = Piece(start=0, end=len(data), near=near)
        place = Place(file=number, offset=base, length=len(data))
        together = self._chooser.bytes_(place, data, self._window(whole))
        return together if together.cost_bytes < cost else None

    # --- cutting a chunk --------------------------------------------------------------

    def _pieces(self, number: int, base: int, data: bytes) -> Iterator[Piece]:
        """The pieces of a chunk, in order and without gaps."""
        done = 0
        for aligned in _overlapping(self._ranges.get(number, ()), base, base + len(data)):
            start = max(aligned.start - base, 0)
            end = min(aligned.end - base, len(data))
            yield from self._plain(base, data, done, start)
            yield from self._tensor(base, data, start, end, aligned)
            done = end
        yield from self._plain(base, data, done, len(data))

    def _tensor(
        self, base: int, data: bytes, start: int, end: int, aligned: AlignedRange
    ) -> Iterator[Piece]:
        """A tensor's bytes within the chunk: a copy if nothing changed."""
        at = aligned.source_start + base + start - aligned.start
        self._shift = _Shift(file=aligned.source_file, distance=at - base - start)
        near = (aligned.source_file, at)
        same = self._copies and self._read_source(*near, end - start) == data[start:end]
        if same:
            yield Piece(start=start, end=end, copy_from=near, aligned=aligned)
        elif aligned.kind is None:
            yield from self._plain(base, data, start, end)
        else:
            yield Piece(start=start, end=end, aligned=aligned, near=near)

    def _plain(self, base: int, data: bytes, start: int, end: int) -> Iterator[Piece]:
        """Bytes that no tensor predicts: copies of what the source holds, and the rest."""
        done = start
        for match_start, match_end, source in self._found(base, data, start, end):
            if done < match_start:
                yield self._unknown(base, done, match_start)
            file, at = source
            self._shift = _Shift(file=file, distance=at - base - match_start)
            yield Piece(start=match_start, end=match_end, copy_from=source)
            done = match_end
        if done < end:
            yield self._unknown(base, done, end)

    def _unknown(self, base: int, start: int, end: int) -> Piece:
        return Piece(start=start, end=end, near=self._shift.at(base + start))

    def _found(
        self, base: int, data: bytes, start: int, end: int
    ) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Ranges that the source holds: first where it is expected, then anywhere."""
        if not self._copies or not self._sources or start == end:
            return
        done = start
        for run_start, run_end, source in self._expected(base, data, start, end):
            yield from self._anywhere(data, done, run_start)
            yield run_start, run_end, source
            done = run_end
        yield from self._anywhere(data, done, end)

    def _expected(
        self, base: int, data: bytes, start: int, end: int
    ) -> list[tuple[int, int, tuple[int, int]]]:
        near = self._shift.at(base + start)
        if near is None:
            return []
        file, at = near
        source = self._read_source(file, at, end - start)
        length_min = min(end - start, _COPY_BYTES_MIN)
        return [
            (start + first, start + last, (file, at + first))
            for first, last in equal_runs(data[start:end], source, length_min)
        ]

    def _anywhere(
        self, data: bytes, start: int, end: int
    ) -> Iterator[tuple[int, int, tuple[int, int]]]:
        if end - start < SourceIndex.BLOCK_BYTES_MIN:
            return
        if self._index is None:
            self._index = SourceIndex(self._sources)
        for match in self._index.matches(data[start:end]):
            source = (match.source_file, match.source_start)
            yield start + match.start, start + match.end, source


def _join_tensors(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Makes one piece of neighbouring tensors whose numbers run on alike in the source."""
    before: Piece | None = None
    for piece in pieces:
        joined = _joined_numbers(before, piece) if before is not None else None
        if before is not None and joined is None:
            yield before
        before = joined or piece
    if before is not None:
        yield before


def _joined_numbers(before: Piece, piece: Piece) -> Piece | None:
    """Both as one piece of numbers; None where they differ in kind or place, or are copies."""
    first, second = before.aligned, piece.aligned
    if first is None or second is None or first.kind is None or first.kind != second.kind:
        return None
    copied = [one for one in (before, piece) if one.copy_from is not None]
    steps = second.start - first.start
    alike = (
        first.source_file == second.source_file
        and second.source_start - first.source_start == steps
        and steps % first.kind.width_bytes == 0
        and len(copied) < 2
        and all(one.length <= _JOINED_BYTES_MAX for one in copied)
    )
    if not alike:
        return None
    return Piece(
        start=before.start,
        end=piece.end,
        aligned=replace(first, end=second.end),
        near=before.near or before.copy_from,
    )


def _join_small(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Makes one piece of neighbouring ones that are too small for records of their own."""
    joined: Piece | None = None
    for piece in pieces:
        if piece.length > _JOINED_BYTES_MAX:
            if joined is not None:
                yield joined
                joined = None
            yield piece
        elif joined is None:
            joined = piece
        elif piece.copy_from and piece.copy_from == _following(joined):
            joined = Piece(start=joined.start, end=piece.end, copy_from=joined.copy_from)
        else:
            joined = Piece(start=joined.start, end=piece.end, near=joined.copy_from or joined.near)
    if joined is not None:
        yield joined


def _following(piece: Piece) -> tuple[int, int] | None:
    """The source position behind a copy."""
    if piece.copy_from is None:
        return None
    file, at = piece.copy_from
    return file, at + piece.length


def _source_of(piece: Piece) -> tuple[int, int] | None:
    """Where in the source the piece's chunk would begin, if all of it had the same shift."""
    at = piece.copy_from or piece.near
    return None if at is None or at[1] < piece.start else (at[0], at[1] - piece.start)


def _overlapping(ranges: Sequence[AlignedRange], start: int, end: int) -> Iterator[AlignedRange]:
    """The ranges that have bytes between ``start`` and ``end``."""
    first = bisect_right([one.end for one in ranges], start)
    for one in ranges[first:]:
        if one.start >= end:
            return
        yield one
