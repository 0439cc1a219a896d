"""What a delta spends its bytes on: for each tensor what predicts it, how, and at what cost.

The delta is made, and its records are laid over the tensors of the target.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_sdk.base import UnavailableError
from edge_sdk.delta.addresses import Addresses
from edge_sdk.delta.alignment import LocatedTensor, locate_tensors
from edge_sdk.delta.apply import read_header
from edge_sdk.delta.container import PREDICTION_SLOTS, PREFIX_BYTES_MAX, FileRef, Header
from edge_sdk.delta.encode import encode
from edge_sdk.delta.files import OpenFile, open_one, open_tree
from edge_sdk.delta.inspect import HeldRecord, records
from edge_sdk.delta.low_rank import LowRank
from edge_sdk.delta.methods import DecodeContext
from edge_sdk.delta.methods.patch import open_patch
from edge_sdk.delta.prediction import Prediction, SourceRange, parse_prediction
from edge_sdk.delta.records import Place
from edge_sdk.formats import DTYPE_BITS

OUTSIDE = "outside of tensors"
NOTHING = "nothing"
SIZES = "nothing; sizes of rows and columns"
_COMPARED_BYTES = 1 << 20
# What an operation of a patch costs, about, where new bytes cost one each.
_OPERATION_BYTES = 4

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tensor of the target, or bytes of a file that are in none (``dtype`` ""), by method.

    ``predicted_from`` and ``methods`` count target bytes and delta bytes, the most first.
    ``missed``: of the predicted elements, the share that is not what was predicted; None where
    nothing is. Tables count where they are used first.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    target_bytes: int
    delta_bytes: int
    bits_per_weight: float | None
    missed: float | None
    predicted_from: Mapping[str, int]
    methods: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``parts``: tensors in the order of the target, then what is in none. ``overhead_bytes`` are
    header, index and end."""

    delta_bytes: int
    target_bytes: int
    overhead_bytes: int
    parts: tuple[Part, ...]

    @property
    def methods(self) -> dict[str, int]:
        """Delta bytes by method, the most first."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.methods)
        return dict(total.most_common())

    @property
    def has_several_files(self) -> bool:
        return any(part.file != self.parts[0].file for part in self.parts)

    @property
    def largest(self) -> list[Part]:
        return sorted(self.parts, key=lambda part: -part.delta_bytes)


def explain(source: Path, target: Path, *, progress: Progress | None = None) -> Explanation:
    """Makes the delta of two files or folders and tells what is in it.

    Raises: as ``encode``.
    """
    with tempfile.TemporaryDirectory(prefix="edge-delta-") as folder, ExitStack() as stack:
        made = Path(folder) / "delta"
        sources = stack.enter_context(open_tree(source))
        targets = stack.enter_context(open_tree(target))
        with made.open("wb") as out:
            encode(source, target, out, progress=progress)
        container = stack.enter_context(open_one(made, str(made)))
        header = read_header(container, memory_limit_bytes=PREFIX_BYTES_MAX)
        _check_same(header, sources, targets)
        origins = _Origins([(source, sources), (target, targets)])
        ledger = _Ledger(header, origins, targets, _parts(target, header.targets))
        try:
            for record in records(container, header):
                ledger.add(record)
        finally:  # also where what is read now does not fit the records
            _check_same(header, sources, targets)
        return ledger.finish()


def _check_same(header: Header, sources: Sequence[OpenFile], targets: Sequence[OpenFile]) -> None:
    """Raises: UnavailableError (the files are not those that the delta was made of)."""
    for opened, files in ((sources, header.sources), (targets, header.targets)):
        if [file.path for file in opened] != [ref.path for ref in files]:
            raise UnavailableError("files came or went meanwhile; run it again when they rest")
        for file, ref in zip(opened, files, strict=True):
            if file.size_bytes != ref.size_bytes:
                raise file.changed()
            file.check_rests()


@dataclass(slots=True)
class _Account:
    """What is counted for one part."""

    file: str
    name: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    target_bytes: int = 0
    delta_bytes: int = 0
    compared: int = 0
    missed: int = 0
    predicted_from: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)

    @property
    def element_bits(self) -> int:
        return DTYPE_BITS.get(self.dtype, 8)

    def part(self) -> Part:
        weights = self.target_bytes * 8 / self.element_bits
        has_weights = self.dtype in DTYPE_BITS and weights > 0
        return Part(
            file=self.file,
            name=self.name,
            dtype=self.dtype,
            shape=self.shape,
            target_bytes=self.target_bytes,
            delta_bytes=self.delta_bytes,
            bits_per_weight=self.delta_bytes * 8 / weights if has_weights else None,
            missed=self.missed / self.compared if self.compared else None,
            predicted_from=dict(self.predicted_from.most_common()),
            methods=dict(self.methods.most_common()),
        )


@dataclass(frozen=True, slots=True)
class _Segment:
    """A run of target bytes; of a tensor, or (``account`` None) of none."""

    start: int
    end: int
    account: _Account | None


def _parts(target: Path, files: Sequence[FileRef]) -> list[list[_Segment]]:
    """Each target file cut into its tensors and what is between them."""
    located = locate_tensors(target, [file.path for file in files])
    found = []
    for number, file in enumerate(files):
        segments: list[_Segment] = []
        at = 0
        for one in located:
            if one.file != number or one.tensor.offset < at:
                continue
            if one.tensor.offset > at:
                segments.append(_Segment(at, one.tensor.offset, None))
            tensor = one.tensor
            account = _Account(file.path, tensor.name, tensor.dtype, tuple(tensor.shape))
            segments.append(_Segment(tensor.offset, one.end, account))
            at = one.end
        if at < file.size_bytes:
            segments.append(_Segment(at, file.size_bytes, None))
        found.append(segments)
    return found


class _Origins:
    """What records refer to: source files, behind them target files, and what is in them."""

    def __init__(self, artifacts: Sequence[tuple[Path, Sequence[OpenFile]]]) -> None:
        self._files = [file for _, files in artifacts for file in files]
        self._tensors: list[list[LocatedTensor]] = [[] for _ in self._files]
        self._addresses = Addresses(file.size_bytes for file in self._files)
        first = 0
        for root, files in artifacts:
            for one in locate_tensors(root, [file.path for file in files]):
                self._tensors[first + one.file].append(one)
            first += len(files)
        self._starts = [[one.tensor.offset for one in tensors] for tensors in self._tensors]

    def read(self, file: int, offset: int, length: int) -> bytes:
        return self._files[file].read(offset, length)

    def name(self, file: int, offset: int) -> str:
        """The tensor at this place, or else the file."""
        number = bisect_right(self._starts[file], offset) - 1
        if number >= 0 and offset < self._tensors[file][number].end:
            return self._tensors[file][number].tensor.name
        return f"bytes of {self._files[file].path}"

    def copied(self, address: int, length: int) -> _Origin:
        """A range as it is."""
        ranges = tuple(
            SourceRange(file=file, offset=offset, length=count)
            for file, offset, count in self._addresses.parts(address, length)
        )
        return _Predicted(Prediction(ranges=ranges), 0, self)


@dataclass(frozen=True, slots=True)
class _Portion:
    """Bytes that a record makes in one way. ``weight``: what they cost, beside its others."""

    length: int
    weight: int
    origin: _Origin


class _Ledger:
    """Lays records over segments."""

    def __init__(
        self,
        header: Header,
        origins: _Origins,
        targets: Sequence[OpenFile],
        segments: Sequence[Sequence[_Segment]],
    ) -> None:
        self._header = header
        self._origins = origins
        self._targets = targets
        self._segments = segments
        self._starts = [[one.start for one in file] for file in segments]
        self._addresses = Addresses(file.size_bytes for file in header.targets)
        self._context = DecodeContext(
            header.sources,
            origins.read,
            header.targets,
            lambda file, offset, length: targets[file].read(offset, length),
        )
        self._outside: dict[tuple[int, str], _Account] = {}
        self._predictions: dict[int, Prediction] = {}
        self._tables_bytes = 0
        self._counted_bytes = 0

    def add(self, record: HeldRecord) -> None:
        self._counted_bytes += record.delta_bytes
        if record.place is None:
            self._tables_bytes += record.delta_bytes
            slot = record.body.varint()
            if slot < PREDICTION_SLOTS:
                self._predictions[slot] = parse_prediction(record.body, self._header.sources)
            return
        portions = list(self._portions(record))
        total = sum(portion.weight for portion in portions)
        position = self._addresses.of(record.place.file, record.place.offset)
        weight, spent = 0, 0
        for portion in portions:
            weight += portion.weight
            share = record.delta_bytes * weight // total - spent
            spent += share
            self._lay(record.name, portion, position, share)
            position += portion.length

    def _lay(self, name: str, portion: _Portion, position: int, delta_bytes: int) -> None:
        """Counts a portion for what it is laid over."""
        done, spent = 0, 0
        for file, offset, length in self._addresses.parts(position, portion.length):
            for start, end, tensor in self._overlaps(file, offset, offset + length):
                account = tensor or self._account_outside(file, name)
                share = delta_bytes * (done + end - start) // portion.length - spent
                account.target_bytes += end - start
                account.delta_bytes += share + self._tables_bytes
                account.methods[name] += share
                if self._tables_bytes:
                    account.methods["table"] += self._tables_bytes
                    self._tables_bytes = 0
                account.predicted_from[portion.origin.what(done)] += end - start
                place = Place(file=file, offset=start, length=end - start)
                self._compare(portion.origin, account, place, done)
                spent += share
                done += end - start

    def _account_outside(self, file: int, method: str) -> _Account:
        path = self._header.targets[file].path
        return self._outside.setdefault((file, method), _Account(file=path, name=OUTSIDE))

    def _overlaps(
        self, file: int, start: int, end: int
    ) -> Iterator[tuple[int, int, _Account | None]]:
        segments = self._segments[file]
        number = bisect_right(self._starts[file], start) - 1
        while number < len(segments) and segments[number].start < end:
            one = segments[number]
            yield max(start, one.start), min(end, one.end), one.account
            number += 1

    def _portions(self, record: HeldRecord) -> Iterator[_Portion]:
        body = record.body
        assert record.place is not None
        length = record.place.length
        if record.name == "patch":
            yield from self._patched(record)
            return
        origin = _Origin(NOTHING)
        if record.name == "copy":
            origin = self._origins.copied(body.varint(), length)
        if record.name == "residual":
            slot, position = body.varint(), body.varint()
            if slot in self._predictions:
                origin = _Predicted(self._predictions[slot], position, self._origins)
        yield _Portion(length, length, origin)

    def _patched(self, record: HeldRecord) -> Iterator[_Portion]:
        assert record.place is not None
        place = record.place
        self._context.position = self._addresses.of(place.file, place.offset)
        new = open_patch(record.body, place.length, self._context)
        for one in new.operations:
            if one.literal:
                yield _Portion(one.literal, one.literal, _Origin(NOTHING))
            if one.referred:
                origin = self._origins.copied(one.address, one.referred)
                yield _Portion(one.referred, _OPERATION_BYTES + one.changed // 4, origin)

    def _compare(self, origin: _Origin, account: _Account, place: Place, at: int) -> None:
        """Counts elements that are not as predicted; those that a record cuts are left out."""
        width = account.element_bits // 8
        for start in range(0, place.length if width else 0, _COMPARED_BYTES):
            length = min(_COMPARED_BYTES, place.length - start) // width * width
            predicted = origin.predicted(at + start, length) if length else None
            if predicted is None:
                return
            made = self._targets[place.file].read(place.offset + start, length)
            before, after = (np.frombuffer(one, f"V{width}") for one in (predicted, made))
            account.compared += len(after)
            account.missed += int(np.count_nonzero(before != after))

    def finish(self) -> Explanation:
        tensors = [one.account for file in self._segments for one in file if one.account]
        accounts = [*tensors, *self._outside.values()]
        return Explanation(
            delta_bytes=self._header.delta_bytes,
            target_bytes=self._header.target_bytes,
            overhead_bytes=self._header.delta_bytes - self._counted_bytes,
            parts=tuple(account.part() for account in accounts),
        )


class _Origin:
    """What a record's bytes come from; here nothing that could be compared."""

    def __init__(self, what: str) -> None:
        self._what = what

    def what(self, at: int) -> str:
        """What the byte ``at`` of the record is predicted from."""
        return self._what

    def predicted(self, at: int, length: int) -> bytes | None:
        return None


class _Predicted(_Origin):
    def __init__(self, prediction: Prediction, position: int, origins: _Origins) -> None:
        super().__init__("")
        self._prediction = prediction
        self._position = position
        self._origins = origins

    def what(self, at: int) -> str:
        values = self._prediction.values
        if _tells_sizes(self._prediction):
            return SIZES
        at += self._position
        if values is not None:
            at = at // values.target.width_bytes * values.source.width_bytes
        for one in self._prediction.ranges:
            if at < one.total_bytes:
                break
            at -= one.total_bytes
        within = 0 if one.dimensions else at
        words = [self._origins.name(one.file, one.offset + within)]
        if one.dimensions:
            words.append("reordered")
        if values is not None:
            change = f"{values.source.name} to {values.target.name}"
            words.append(f"{values.operation.name.lower()} {change}")
        return ", ".join(words)

    def predicted(self, at: int, length: int) -> bytes | None:
        if _tells_sizes(self._prediction):
            return None
        return bytes(self._prediction.read(self._position + at, length, self._origins.read))


def _tells_sizes(prediction: Prediction) -> bool:
    """Whether it says nothing but how large numbers are."""
    values = prediction.values
    return isinstance(values, LowRank) and values.gain == 0
