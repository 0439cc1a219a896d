"""New bytes that are differences to what is at hand, and stretches as operations."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta.stretches import Stretch, gathered, with_changes

NOISE = random.Random(7).randbytes(4000)


def read(address: int, length: int) -> bytes:
    assert 0 <= address <= address + length <= len(NOISE), "a read outside of the source"
    return NOISE[address : address + length]


def made(stretches: list[Stretch]) -> bytes:
    """What they stand for."""
    out = bytearray()
    for one in stretches:
        if one.address is None:
            out += one.new
            continue
        before = np.frombuffer(read(one.address, one.length), np.uint8)
        steps = np.frombuffer(one.new or bytes(one.length), np.uint8)
        out += (before + steps).tobytes()
    return bytes(out)


def new(data: bytes, near: int | None = None) -> Stretch:
    return Stretch(length=len(data), new=data, near=near)


def copy(address: int, length: int) -> Stretch:
    return Stretch(length=length, address=address)


def moved(data: bytes, every: int) -> bytes:
    """Each so manieth byte is larger by 5."""
    return bytes((x + 5 * (n % every == 0)) % 256 for n, x in enumerate(data))


def test_bytes_like_those_behind_a_copy_are_differences() -> None:
    """A gap between two copies on one diagonal becomes one run of differences, short copies in it
    included."""
    gap = moved(NOISE[100:140], 4)
    stretches = [
        copy(0, 100),
        new(gap),
        copy(140, 20),
        new(moved(NOISE[160:200], 4)),
        copy(200, 99),
    ]
    found = with_changes(stretches, read, len(NOISE))
    assert made(found) == made(stretches)
    operations = gathered(found).operations
    assert [(one.literal, one.changed, one.copied) for one in operations] == [
        (0, 0, 100),
        (0, 100, 99),
    ]


def test_a_gap_between_two_diagonals_is_parted() -> None:
    """Bytes that follow the first copy, new ones, and bytes that lead up to the second."""
    middle = b"nothing of it is anywhere else" * 2
    gap = moved(NOISE[100:180], 4) + middle + moved(NOISE[2000:2080], 4)
    found = with_changes([copy(0, 100), new(gap), copy(2080, 64)], read, len(NOISE))
    assert made(found) == NOISE[:100] + gap + NOISE[2080:2144]
    literal = next(one for one in found if one.address is None)
    assert abs(literal.length - len(middle)) < 12
    assert found[-2].address is not None
    assert found[-2].address + found[-2].length == 2080


def test_new_bytes_are_looked_for_where_they_may_be() -> None:
    """Without a copy before them, at the place that is named."""
    found, *_ = with_changes([new(moved(NOISE[500:700], 3), 500)], read, len(NOISE))
    assert found.address == 500
    assert found.length > 190
    (found,) = with_changes([new(moved(NOISE[500:700], 3), 501)], read, len(NOISE))
    assert found.address is None


@given(st.data())
def test_whatever_is_changed_makes_the_same(data: st.DataObject) -> None:
    """Copies and new bytes by turns, like or unlike what is near, also past the ends."""
    stretches = []
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()):
            start = data.draw(st.integers(0, 3900))
            stretches.append(copy(start, data.draw(st.integers(1, 100))))
        else:
            start = data.draw(st.integers(-50, 4050))
            there = (bytes(50) + NOISE + bytes(200))[start + 50 :][: data.draw(st.integers(1, 99))]
            like = moved(there, data.draw(st.integers(1, 5)))
            stretches.append(new(like, data.draw(st.none() | st.just(start))))
    found = with_changes(stretches, read, len(NOISE))
    assert made(found) == made(stretches)
    held = gathered(found)
    assert sum(one.literal for one in held.operations) == len(held.literals)
    assert sum(one.changed for one in held.operations) == len(held.differences)
    total = sum(one.literal + one.referred for one in held.operations)
    assert total == sum(one.length for one in stretches)
