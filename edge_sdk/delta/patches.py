"""Copies and the bytes between them, gathered into as few records as possible.

Nothing that lies between two records of numbers is worth a record of its own: however many
copies and new bytes there are, they become one patch, or, where that is all, one copy or
one literal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from edge_sdk.base import UnavailableError
from edge_sdk.delta.addresses import Addresses
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.frames import Effort, Packer
from edge_sdk.delta.methods import Copy, Literal, Method, Patch
from edge_sdk.delta.methods.patch import (
    NEW_BYTES_MAX,
    WINDOWS_BYTES_MAX,
    WINDOWS_MAX,
    Window,
    operations_max,
)
from edge_sdk.delta.records import Place
from edge_sdk.delta.stretches import Stretch, gathered, with_changes
from edge_sdk.delta.writer import ContainerWriter

_STRETCHES_MAX = 4096
# Around the place where new bytes are expected in the source, so much is looked at.
_MARGIN_BYTES_MIN = 1 << 10
_MARGIN_BYTES_MAX = 256 << 10
_MARGIN_SHARE = 4
# Windows that lie this near to each other are one: a further one costs some bytes.
_WINDOW_GAP_BYTES = 64 << 10
_SMALL_BYTES = 64 << 10
# What is so near to the best way at first may be better in the end: windows cost bytes, too.
_NEAR_SHARE = 1.03
_HOPELESS_SHARE = 1.3
_TWICE_BYTES_MAX = 256 << 10
# A source up to here is a window as a whole.
_WHOLE_SOURCE_BYTES_MAX = 256 << 10
# Fewer repeated bytes are left to the compressor, which sees what is in one record.
_REPEATED_BYTES_MIN = 32 << 10
# New bytes are looked for in those of the record before, where these are many.
_RECENT_BYTES_MIN = 4 << 10
_RECENT_BYTES_MAX = 512 << 10
# A second, slow look gains a tenth and more on text and graphs, 2 % on some weights, but 0.3 %
# on dense ones (measured on fp32, fp16, bf16 and int8). A sample tells.
_SAMPLE_BYTES = 32 << 10
_WORTH_SHARE = 0.99


@dataclass(slots=True)
class _Pending:
    """What makes the target from ``position`` on."""

    position: int
    length: int = 0
    new_bytes: int = 0
    stretches: list[Stretch] = field(default_factory=list)


class _Way:
    """One record that could be made, quickly or densely."""

    def __init__(
        self, method: Method, encode: Callable[..., bytes], reads_target: bool = False
    ) -> None:
        self.method = method
        self.reads_target = reads_target
        self._encode = encode
        self.quick = encode(effort=Effort.QUICK)

    def encode(self, effort: Effort) -> bytes:
        return self._encode(effort=effort)


class Patches:
    """Takes what is made of copies and new bytes, in the order of the target.

    ``methods``: numbers of those that may be used; ``repeats``: whether records may read the
    target.
    """

    def __init__(
        self,
        writer: ContainerWriter,
        methods: Collection[int],
        sources: Sequence[OpenFile],
        targets: Sequence[OpenFile],
        *,
        repeats: bool = False,
    ) -> None:
        self._writer = writer
        self._methods = methods
        self._files = (*sources, *targets)
        self._addresses = Addresses(file.size_bytes for file in self._files)
        self._sources = len(sources)
        self._source_bytes = sum(file.size_bytes for file in sources)
        self._targets = Addresses(file.size_bytes for file in targets)
        self._packer = Packer()
        self._copy = Copy()
        self._literal = Literal()
        self._patch = Patch()
        self._repeats = repeats
        self._recent: Window | None = None  # new bytes of the last record that had many
        self._pending: _Pending | None = None

    def copy(self, place: Place, file: int, offset: int) -> None:
        """Bytes that a source file, or an earlier part of the target, holds as they are."""
        address = self._addresses.of(file, offset)
        if self._pending is not None and address + place.length > self._readable(self._pending):
            few = place.length < _REPEATED_BYTES_MIN
            if few and self._pending.new_bytes + place.length <= NEW_BYTES_MAX:
                here = self._addresses.of(self._sources + place.file, place.offset)
                self.literal(place, self._read(here, place.length), None)
                return
            self.flush()
        stretches = self._begin(place).stretches
        if stretches and stretches[-1].is_copy and stretches[-1].end == address:
            last = stretches.pop()
            address, length = address - last.length, last.length + place.length
        else:
            length = place.length
        stretches.append(Stretch(length=length, address=address))

    def literal(self, place: Place, data: bytes, near: tuple[int, int] | None) -> None:
        """New bytes, which are perhaps like those at ``near``, a file and an offset in it."""
        full = self._pending is not None and (
            self._pending.new_bytes + len(data) > NEW_BYTES_MAX
            or len(self._pending.stretches) >= _STRETCHES_MAX
        )
        if full:
            self.flush()
        pending = self._begin(place)
        pending.new_bytes += len(data)
        address = None if near is None else self._addresses.of(*near)
        pending.stretches.append(Stretch(length=len(data), new=data, near=address))

    def beside(self, place: Place, data: bytes, near: tuple[int, int], cost_bytes: int) -> bool:
        """Writes new bytes as a record of their own that sees just what is as long at ``near``.

        False, and nothing is written, where that takes ``cost_bytes`` or more.
        """
        if self._patch.number not in self._methods:
            return False
        address = self._addresses.of(*near)
        window = Window(address=address, length=min(len(data), self._source_bytes - address))
        tail = self._patch.encode(
            gathered([Stretch(length=len(data), new=data)]),
            [window],
            self._read(window.address, window.length),
            position=self._targets.of(place.file, place.offset),
            packer=self._packer,
            effort=Effort.DENSE,
        )
        if len(tail) >= cost_bytes:
            return False
        self.flush()
        self._writer.record(self._patch, place, tail)
        return True

    def flush(self) -> None:
        """Writes what was taken so far."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        file, offset = self._targets.place(pending.position)
        place = Place(file=file, offset=offset, length=pending.length)
        way, tail = self._smallest(pending, place)
        self._writer.record(way.method, place, tail, reads_target=way.reads_target)
        self._recent = self._recently_new(pending) or self._recent

    def _begin(self, place: Place) -> _Pending:
        if self._pending is not None and self._patch.number not in self._methods:
            self.flush()
        if self._pending is None:
            position = self._targets.of(place.file, place.offset)
            self._pending = _Pending(position=position)
        self._pending.length += place.length
        return self._pending

    def _readable(self, pending: _Pending) -> int:
        """The address behind the last byte that the record may refer to."""
        return self._source_bytes + (pending.position if self._repeats else 0)

    def _recently_new(self, pending: _Pending) -> Window | None:
        """The end of what a record made that is mostly new."""
        if pending.new_bytes < max(_RECENT_BYTES_MIN, pending.length // 2):
            return None
        length = min(pending.length, _RECENT_BYTES_MAX)
        end = self._source_bytes + pending.position + pending.length
        return Window(address=end - length, length=length)

    def _smallest(self, pending: _Pending, place: Place) -> tuple[_Way, bytes]:
        stretches = pending.stretches
        if len(stretches) == 1 and stretches[0].address is not None:
            address, repeats = stretches[0].address, self._reads_target(stretches)
            copy = _Way(self._copy, lambda effort: self._copy.encode(address), repeats)
            return copy, copy.quick
        ways: list[_Way] = []
        if self._is_one_chunk(place) and not any(one.is_copy for one in stretches):
            new = b"".join(one.new for one in stretches)
            ways.append(_Way(self._literal, partial(self._literal.encode, new, self._packer)))
        if self._patch.number in self._methods:
            ways += self._patched(pending)
        best = min(ways, key=lambda way: len(way.quick))
        ways = [way for way in ways if len(way.quick) <= _HOPELESS_SHARE * len(best.quick)]
        if pending.new_bytes > _SMALL_BYTES:
            simplest = ways[0]
            is_near = len(simplest.quick) <= _NEAR_SHARE * len(best.quick)
            twice = is_near and simplest is not best and pending.new_bytes <= _TWICE_BYTES_MAX
            ways = [best, simplest] if twice else [best]
            if not self._is_dense_worth_it(b"".join(one.new for one in stretches)):
                return best, best.quick
        return min(
            ((way, tail) for way in ways for tail in (way.quick, way.encode(Effort.DENSE))),
            key=lambda one: len(one[1]),
        )

    def _is_dense_worth_it(self, data: bytes) -> bool:
        start = (len(data) - _SAMPLE_BYTES) // 2
        sample = data[start : start + _SAMPLE_BYTES]
        quick, dense = (
            len(self._packer.pack(sample, effort)) for effort in (Effort.QUICK, Effort.DENSE)
        )
        return dense < _WORTH_SHARE * quick

    def _patched(self, pending: _Pending) -> Iterator[_Way]:
        plain = pending.stretches
        changed = with_changes(plain, self._read, self._readable(pending))
        found = [plain] if changed == plain else [plain, changed]
        if 0 < self._source_bytes <= _WHOLE_SOURCE_BYTES_MAX >= pending.length:
            found.append([self._all_new(pending)])
        for stretches in found:
            new = gathered(stretches)
            if len(new.operations) > operations_max(pending.length):
                continue
            near = [
                Window(address=one.near, length=one.length)
                for one in stretches
                if one.near is not None
            ]
            for chosen in self._window_choices(near, len(new.literals)):
                dictionary = b"".join(self._read(one.address, one.length) for one in chosen)
                yield _Way(
                    self._patch,
                    partial(
                        self._patch.encode,
                        new,
                        chosen,
                        dictionary,
                        position=pending.position,
                        packer=self._packer,
                    ),
                    self._reads_target(stretches) or self._reads_target(chosen),
                )

    def _all_new(self, pending: _Pending) -> Stretch:
        """All bytes as new ones that are like the whole source: the compressor may know better
        what is worth copying."""
        data = b"".join(
            one.new if one.address is None else self._referred(one) for one in pending.stretches
        )
        return Stretch(length=len(data), new=data, near=0)

    def _referred(self, one: Stretch) -> bytes:
        assert one.address is not None
        return self._read(one.address, one.length)

    def _reads_target(self, ranges: Sequence[Stretch | Window]) -> bool:
        return any((one.end or 0) > self._source_bytes for one in ranges)

    def _window_choices(self, near: Sequence[Window], new_bytes: int) -> Iterator[list[Window]]:
        """Nothing, what the new bytes are near to, and that with what was new before."""
        yield []
        windows = _windows(near, self._source_bytes)
        if windows:
            yield windows
        if self._recent is not None and self._repeats and new_bytes >= _RECENT_BYTES_MIN:
            left_bytes = WINDOWS_BYTES_MAX - self._recent.length
            yield [*_first(windows[: WINDOWS_MAX - 1], left_bytes), self._recent]

    def _is_one_chunk(self, place: Place) -> bool:
        size_bytes = self._files[self._sources + place.file].size_bytes
        return not place.crosses_chunks and place.end <= size_bytes

    def _read(self, address: int, count: int) -> bytes:
        parts = []
        for file, offset, length in self._addresses.parts(address, count):
            data = self._files[file].read(offset, length)
            if len(data) != length:
                path = self._files[file].path
                raise UnavailableError(
                    f"{path!r} changed while it was read; run it again when it rests"
                )
            parts.append(data)
        return b"".join(parts)


def _windows(near: Sequence[Window], end: int) -> list[Window]:
    """What to look at for new bytes, before ``end`` and within what a patch may have."""
    share, gap_bytes = _MARGIN_SHARE, _WINDOW_GAP_BYTES
    while True:
        windows = list(_joined(near, share, gap_bytes, end))
        if share and sum(one.length for one in windows) > WINDOWS_BYTES_MAX:
            share -= 1
        elif len(windows) > WINDOWS_MAX:
            gap_bytes *= 2
        else:
            return list(_first(windows, WINDOWS_BYTES_MAX))


def _joined(near: Sequence[Window], share: int, gap_bytes: int, end: int) -> Iterator[Window]:
    """Each with a margin that is a share of it, as one where they meet."""
    before: Window | None = None
    for one in sorted(near, key=lambda one: one.address):
        margin = min(max(share * one.length, share * _MARGIN_BYTES_MIN), _MARGIN_BYTES_MAX)
        first = max(0, one.address - margin)
        last = min(end, one.end + margin)
        if first >= last:
            continue
        if before is not None and first <= before.end + gap_bytes:
            before = Window(address=before.address, length=max(before.end, last) - before.address)
            continue
        if before is not None:
            yield before
        before = Window(address=first, length=last - first)
    if before is not None:
        yield before


def _first(windows: Iterable[Window], length: int) -> Iterator[Window]:
    """As many of their bytes as that."""
    for one in windows:
        if length:
            yield Window(address=one.address, length=min(length, one.length))
        length -= min(length, one.length)
