"""Target bytes as stretches: new ones, copies, and copies to which differences are added.

What changed in few of its bytes, such as a table of offsets that all moved by as much, is
shorter as differences to what it was than as new bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.methods.patch import New, Operation

Bytes8 = NDArray[np.uint8]
Read = Callable[[int, int], bytes]
"""Address and length to bytes."""

# Equal bytes between changed ones: up to here they are zeros among the differences.
_COPIED_BYTES_MIN = 40
# Fewer bytes than that are not worth an operation of their own.
_CHANGED_BYTES_MIN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """``length`` bytes: those at ``address`` as they are, or with ``new`` as differences added,
    or, without an address, ``new``. ``near``: an address where alike bytes may be."""

    length: int
    address: int | None = None
    new: bytes = b""
    near: int | None = None

    @property
    def is_copy(self) -> bool:
        return self.address is not None and not self.new

    @property
    def end(self) -> int | None:
        """The address behind what it refers to."""
        return None if self.address is None else self.address + self.length


def with_changes(stretches: Sequence[Stretch], read: Read, end: int) -> list[Stretch]:
    """The same, where new bytes that are like those at hand, before ``end``, are differences."""
    found: list[Stretch] = []
    for number, one in enumerate(stretches):
        if one.address is not None:
            found.append(one)
            continue
        following = stretches[number + 1] if number + 1 < len(stretches) else Stretch(length=0)
        behind = found[-1].end if found else None
        after = None if following.address is None else following.address - one.length
        before = one.near if behind is None else behind
        found += _split(one, before, after, read, end)
    return list(_without_short_copies(found))


def _split(
    one: Stretch, before: int | None, after: int | None, read: Read, end: int
) -> Iterator[Stretch]:
    """New bytes as a part that is like what is at ``before``, one that is new, and one that is
    like what is at ``after``."""
    new = np.frombuffer(one.new, np.uint8)
    first, last = (_steps(new, address, read, end) for address in (before, after))
    head, tail = _sparse(first), _sparse(last[::-1])
    if head + tail > len(new):  # the border is where most bytes are equal
        start = len(new) - tail
        gains = np.cumsum((first == 0)[start:head].astype(int) - (last == 0)[start:head])
        head = start + (int(gains.argmax()) + 1 if gains.max() > 0 else 0)
        tail = len(new) - head
    middle = len(new) - tail
    if head:
        yield Stretch(length=head, address=before, new=first[:head].tobytes())
    if head < middle:
        near = None if one.near is None else one.near + head
        yield Stretch(length=middle - head, new=one.new[head:middle], near=near)
    if tail and after is not None:
        yield Stretch(length=tail, address=after + middle, new=last[middle:].tobytes())


def _steps(new: Bytes8, address: int | None, read: Read, end: int) -> Bytes8:
    """Differences to the bytes at an address; where these are not there, none is zero."""
    steps = np.ones(len(new), np.uint8)
    if address is not None:
        first, last = max(0, -address), min(len(new), end - address)
        if first < last:
            there = np.frombuffer(read(address + first, last - first), np.uint8)
            steps[first:last] = new[first:last] - there
    return steps


def _sparse(steps: Bytes8) -> int:
    """How many of the first differences are together mostly zeros."""
    gains = np.cumsum(np.where(steps == 0, 1, -1))
    best = int(gains.argmax())
    return best + 1 if gains[best] >= _CHANGED_BYTES_MIN else 0


def _without_short_copies(stretches: Sequence[Stretch]) -> Iterator[Stretch]:
    """A short copy between differences on one diagonal is differences, too."""
    for number, one in enumerate(stretches):
        before, after = (
            stretches[at] if 0 <= at < len(stretches) else Stretch(length=0)
            for at in (number - 1, number + 1)
        )
        goes_on = before.end == one.address and after.address == one.end
        if one.is_copy and one.length < _COPIED_BYTES_MIN and goes_on and after.new and before.new:
            yield Stretch(length=one.length, address=one.address, new=bytes(one.length))
        else:
            yield one


def gathered(stretches: Sequence[Stretch]) -> New:
    """The stretches as a patch has them."""
    return New(
        operations=list(_operations(stretches)),
        literals=b"".join(one.new for one in stretches if one.address is None),
        differences=b"".join(one.new for one in stretches if one.address is not None),
    )


def _operations(stretches: Sequence[Stretch]) -> Iterator[Operation]:
    """As few as possible."""
    last = Operation()
    for one in stretches:
        if one.address is None:
            if last.referred:
                yield last
                last = Operation()
            last = replace(last, literal=last.literal + one.length)
            continue
        if last.referred and (last.end != one.address or (one.new and last.copied)):
            yield last
            last = Operation()
        if not last.referred:
            last = replace(last, address=one.address)
        if one.new:
            last = replace(last, changed=last.changed + one.length)
        else:
            last = replace(last, copied=last.copied + one.length)
    yield last
