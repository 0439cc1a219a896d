"""Cuts a chunk of the target into pieces: what the source holds as it is, tensors with a
counterpart there, and the rest."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.matching import SourceIndex, equal_runs
from edge_sdk.delta.repeats import Repeats

# A copy inside other bytes costs some bytes, and they are compressed without it beside them.
_COPY_BYTES_MIN = 64
# Changed numbers up to here are better among other bytes than in a record of their own.
_SMALL_NUMBERS_BYTES_MAX = 512
# Blocks of small sources by which copies are found.
_BLOCK_BYTES_MIN = 32
# What a copy from elsewhere must have more than what stands beside the target.
_GAIN_BYTES_MIN = 48
# A copy of no more is nothing but likely.
_SHORT_BYTES_MAX = 16
# So few changed bytes, each between copies, cost less than any code of numbers.
_FEW_BYTES = 12
_COMPARED_BYTES = 4 << 10
# Numbers of neighbouring tensors are coded as one where one of them is not larger: codes of
# their own are shorter for large ones.
_JOINED_NUMBERS_BYTES_MAX = 16 << 10
# A tensor in which at most so many numbers changed is sparse.
_SPARSE_SHARE = 0.125
_BESIDE_CHANGED_MAX = 16
# So many bytes between two tensors of single bytes cost less among these than as a record.
_BETWEEN_BYTES_MAX = 2 << 10
# Tensors that a common table would cost more than a record have one each.
_RECORD_BITS = 8 * 28


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

    @property
    def is_single(self) -> bool:
        """Whether it is numbers of one byte that others of the source predict, byte by byte."""
        aligned = self.aligned
        if self.copy_from is not None or aligned is None or aligned.kind is None:
            return False
        return aligned.is_plain and aligned.kind.width_bytes == 1


@dataclass(frozen=True, slots=True)
class _Compared:
    """A piece, where in the source its counterpart stands, and how many bytes differ."""

    piece: Piece
    place: tuple[int, int]
    changed: int

    @property
    def told_bits(self) -> float:
        """What it takes to tell which bytes differ."""
        share = self.changed / self.piece.length
        if not 0 < share < 1:
            return 0.0
        rest = 1 - share
        return -self.piece.length * (share * math.log2(share) + rest * math.log2(rest))


@dataclass(slots=True)
class _Shift:
    """Where the source was last found to run beside the target: a guess for what follows."""

    file: int | None = None
    distance: int = 0  # source offset minus target offset

    def at(self, offset: int) -> tuple[int, int] | None:
        if self.file is None or offset + self.distance < 0:
            return None
        return self.file, offset + self.distance


class Cutter:
    """Cuts the chunks of one target file after the other.

    ``copies`` tells whether copies may be made at all. Copies of ``repeats`` have the numbers of
    target files, counted behind those of the sources.
    """

    def __init__(
        self,
        sources: Sequence[OpenFile],
        ranges: Mapping[int, Sequence[AlignedRange]],
        *,
        copies: bool,
        repeats: Repeats | None = None,
    ) -> None:
        self._sources = sources
        self._ranges = ranges
        self._copies = copies
        self._repeats = repeats
        self._numbers = {file.path: number for number, file in enumerate(sources)}
        self._by_suffix: dict[str, list[int]] = defaultdict(list)
        for number, one in enumerate(sources):
            self._by_suffix[PurePath(one.path).suffix].append(number)
        self._index: SourceIndex | None = None
        self._shift = _Shift()

    def begin(self, file: OpenFile) -> None:
        """Begins another target file."""
        self._shift = self._first_guess(file)

    def pieces(self, number: int, base: int, data: bytes) -> list[Piece]:
        """The pieces of a chunk that begins at ``base`` of target file ``number``."""
        pieces = _join_tensors(self._with_repeats(number, base, data))
        joined = _join_copies(self._join_sparse(base, data, pieces))
        return list(_among_others(_join_alone(base, joined)))

    def _join_sparse(self, base: int, data: bytes, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Makes one piece of tensors of single bytes that hardly changed, and of the few bytes
        beside them: records of their own cost more than such numbers do."""
        before: _Compared | None = None
        for piece in pieces:
            here = self._compared(base, data, piece)
            joined = _sparse_together(before, here, base) if before and here else None
            if before is not None and joined is None:
                yield before.piece
            if here is None:
                yield piece
            before = joined or here
        if before is not None:
            yield before.piece

    def _compared(self, base: int, data: bytes, piece: Piece) -> _Compared | None:
        """None where a piece is nothing that may be joined so."""
        place = _source_of(piece, base)
        if place is None or place[0] >= len(self._sources):
            return None  # nothing of the source
        if not (piece.is_single or piece.length <= _SMALL_NUMBERS_BYTES_MAX):
            return None
        source = np.frombuffer(self._read_source(*place, piece.length), np.uint8)
        target = np.frombuffer(data, np.uint8, piece.length, piece.start)
        if len(source) < len(target):
            return None
        changed = int(np.count_nonzero(source != target))
        most = _SPARSE_SHARE * piece.length if piece.is_single else _BESIDE_CHANGED_MAX
        return _Compared(piece, place, changed) if changed <= most else None

    def _first_guess(self, file: OpenFile) -> _Shift:
        """The source file that a target file was probably made from."""
        if not self._sources:
            return _Shift()
        if file.path in self._numbers:
            return _Shift(file=self._numbers[file.path])
        alike = self._by_suffix.get(PurePath(file.path).suffix) or range(len(self._sources))
        return _Shift(
            file=min(
                alike, key=lambda number: abs(self._sources[number].size_bytes - file.size_bytes)
            )
        )

    def _read_source(self, file: int, offset: int, length: int) -> bytes:
        return self._sources[file].read(offset, length)

    def _with_repeats(self, number: int, base: int, data: bytes) -> Iterator[Piece]:
        """The pieces of a chunk, where what stands earlier in the target is copied from there."""
        for piece in self._pieces(number, base, data):
            if self._repeats is None or piece.copy_from is not None:
                yield piece
            elif piece.aligned is not None:
                yield self._repeated_tensor(self._repeats, number, base, data, piece)
            else:
                yield from self._repeated_bytes(self._repeats, number, base, data, piece)

    def _repeated_tensor(
        self, repeats: Repeats, number: int, base: int, data: bytes, piece: Piece
    ) -> Piece:
        assert piece.aligned is not None
        earlier = repeats.tensor(number, piece.aligned.start)
        if earlier is None:
            return piece
        file, start = earlier
        at = start + base + piece.start - piece.aligned.start
        if repeats.read(file, at, piece.length) != data[piece.start : piece.end]:
            return piece
        return replace(piece, copy_from=(len(self._sources) + file, at))

    def _repeated_bytes(
        self, repeats: Repeats, number: int, base: int, data: bytes, piece: Piece
    ) -> Iterator[Piece]:
        done = piece.start
        part = data[piece.start : piece.end]
        for match in repeats.matches(number, base + piece.start, part):
            start, end = piece.start + match.start, piece.start + match.end
            if done < start:
                yield self._unknown(base, done, start)
            yield Piece(
                start=start,
                end=end,
                copy_from=(len(self._sources) + match.source_file, match.source_start),
            )
            done = end
        if done == piece.start:
            yield piece
        elif done < piece.end:
            yield self._unknown(base, done, piece.end)

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
        if not aligned.is_predicted:
            for piece in self._plain(base, data, start, end):
                yield piece if piece.copy_from else replace(piece, aligned=aligned)
            return
        if aligned.prediction is not None:
            yield Piece(start=start, end=end, aligned=aligned)
            return
        at = aligned.source_start + base + start - aligned.start
        self._shift = _Shift(file=aligned.source_file, distance=at - base - start)
        near = (aligned.source_file, at)
        before, after = self._read_source(*near, end - start), data[start:end]
        if self._copies and before == after:
            yield Piece(start=start, end=end, copy_from=near, aligned=aligned)
        elif aligned.kind is None or _few_differ(before, after):
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
            yield from self._anywhere(base, data, done, run_start)
            yield run_start, run_end, source
            done = run_end
        yield from self._anywhere(base, data, done, end)

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
        self, base: int, data: bytes, start: int, end: int
    ) -> Iterator[tuple[int, int, tuple[int, int]]]:
        if end - start < _BLOCK_BYTES_MIN:
            return
        if self._index is None:
            self._index = SourceIndex(self._sources, block_bytes_min=_BLOCK_BYTES_MIN)
        for match in self._index.matches(data[start:end]):
            first, last = start + match.start, start + match.end
            if last - first - self._equal_here(base, data[first:last], first) >= _GAIN_BYTES_MIN:
                yield first, last, (match.source_file, match.source_start)

    def _equal_here(self, base: int, data: bytes, start: int) -> int:
        """How many of these bytes stand where the source was last found to run beside them."""
        near = self._shift.at(base + start)
        other = b"" if near is None else self._read_source(*near, len(data))
        before, after = (np.frombuffer(one, np.uint8, len(other)) for one in (other, data))
        return int(np.count_nonzero(before == after))


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
    if not (first.is_plain and second.is_plain):
        return None
    copied = [one for one in (before, piece) if one.copy_from is not None]
    steps = second.start - first.start
    alike = (
        first.source_file == second.source_file
        and second.source_start - first.source_start == steps
        and steps % first.kind.width_bytes == 0
        and len(copied) < 2
        and all(one.length <= _SMALL_NUMBERS_BYTES_MAX for one in copied)
        and min(before.length, piece.length) <= _JOINED_NUMBERS_BYTES_MAX
    )
    if not alike:
        return None
    return Piece(
        start=before.start,
        end=piece.end,
        aligned=replace(first, end=second.end),
        near=before.near or before.copy_from,
    )


def _join_alone(base: int, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Makes one piece of tensors of single bytes that nothing predicts, and of the few bytes
    between: levels tell apart what is unlike, and records of their own cost more."""
    before: Piece | None = None
    between: list[Piece] = []
    for piece in pieces:
        if before is not None and _is_alone(piece):
            assert before.aligned is not None and piece.aligned is not None
            aligned = replace(before.aligned, end=max(base + piece.end, piece.aligned.end))
            before = replace(before, end=piece.end, aligned=aligned)
            between = []
        elif before is not None and _may_stand_between(piece, between):
            between.append(piece)
        else:
            yield from (before, *between) if before is not None else ()
            before, between = (piece, []) if _is_alone(piece) else (None, [])
            if before is None:
                yield piece
    yield from (before, *between) if before is not None else ()


def _is_alone(piece: Piece) -> bool:
    """Whether it is numbers of one byte that nothing predicts, enough for a record."""
    aligned = piece.aligned
    if piece.copy_from is not None or aligned is None or aligned.kind is None:
        return False
    nothing = not aligned.is_predicted and aligned.prediction is None
    return nothing and aligned.kind.width_bytes == 1 and piece.length > _SMALL_NUMBERS_BYTES_MAX


def _may_stand_between(piece: Piece, others: Sequence[Piece]) -> bool:
    length = sum(one.length for one in others) + piece.length
    return piece.copy_from is None and length <= _BETWEEN_BYTES_MAX


def _sparse_together(first: _Compared, second: _Compared, base: int) -> _Compared | None:
    """Both as one tensor; None where they do not run on alike, or are better apart."""
    file, at = first.place
    single = [one.piece for one in (first, second) if one.piece.is_single]
    if not single or second.place != (file, at + first.piece.length):
        return None
    aligned = single[0].aligned
    assert aligned is not None
    start, end = base + first.piece.start, base + second.piece.end
    whole = replace(
        aligned,
        start=min(aligned.start, start),
        end=max(aligned.end, end),
        source_start=at - max(0, start - aligned.start),
    )
    piece = Piece(start=start - base, end=end - base, aligned=whole, near=first.place)
    joined = _Compared(piece, first.place, first.changed + second.changed)
    lost = joined.told_bits - first.told_bits - second.told_bits
    return None if len(single) == 2 and lost > _RECORD_BITS else joined


def _source_of(piece: Piece, base: int) -> tuple[int, int] | None:
    """Where in the source its counterpart stands, if anywhere; ``base`` is that of its chunk."""
    if piece.copy_from is None and piece.aligned is not None and piece.aligned.is_plain:
        at = piece.aligned.source_start + base + piece.start - piece.aligned.start
        return piece.aligned.source_file, at
    return piece.copy_from or piece.near


def _join_copies(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Makes one copy of neighbouring ones that go on in the source."""
    before: Piece | None = None
    for piece in pieces:
        if before is not None and piece.copy_from and piece.copy_from == _following(before):
            before = Piece(start=before.start, end=piece.end, copy_from=before.copy_from)
            continue
        if before is not None:
            yield before
        before = piece
    if before is not None:
        yield before


def _following(piece: Piece) -> tuple[int, int] | None:
    """The source position behind a copy."""
    if piece.copy_from is None:
        return None
    file, at = piece.copy_from
    return file, at + piece.length


def _among_others(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Copies and numbers that are too short to be told apart are bytes like others."""
    for piece in pieces:
        least = _SMALL_NUMBERS_BYTES_MAX if piece.copy_from is None else _SHORT_BYTES_MAX
        if piece.length <= least:
            near = piece.near or piece.copy_from
            yield Piece(start=piece.start, end=piece.end, near=near)
        else:
            yield piece


def _few_differ(before: bytes, after: bytes) -> bool:
    if len(before) != len(after):
        return False
    differing = 0
    for at in range(0, len(after), _COMPARED_BYTES):
        old, new = (
            np.frombuffer(one[at : at + _COMPARED_BYTES], np.uint8) for one in (before, after)
        )
        differing += int(np.count_nonzero(old != new))
        if differing > _FEW_BYTES:
            return False
    return True


def _overlapping(ranges: Sequence[AlignedRange], start: int, end: int) -> Iterator[AlignedRange]:
    """The ranges that have bytes between ``start`` and ``end``."""
    first = bisect_right(ranges, start, key=lambda one: one.end)
    for one in ranges[first:]:
        if one.start >= end:
            return
        yield one
