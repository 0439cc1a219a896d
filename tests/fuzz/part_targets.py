"""What is fed with hostile bytes of parts of a delta that mutation hardly reaches from outside: what
a frame packs, and parameters of maps. As in ``delta_targets.py``."""

from __future__ import annotations

from functools import lru_cache
from unittest.mock import patch as patched

import numpy as np

from edge_sdk.base import DeltaError
from edge_sdk.delta import coder
from edge_sdk.delta.frames import Effort, Packer
from edge_sdk.delta.low_rank import LowRank, parse_low_rank, put_low_rank
from edge_sdk.delta.methods import DecodeContext, Patch
from edge_sdk.delta.methods.patch import New, open_patch, put_operations
from edge_sdk.delta.text_map import TextMap
from edge_sdk.delta.varint import Cursor, varints
from tests.fuzz.delta_targets import PREDICTED
from tests.support.deltas import file_ref

# So much of the target is there before a patch.
PATCHED_AT = 1000
_MADE = bytes(range(250)) * (PATCHED_AT // 250)
_NUMBERS_MAX = 1 << 12


def low_rank(data: bytes) -> None:
    """Parameters of a matrix that is added: one spelling, and parts that are as in the whole."""
    found = _parsed(data)
    assert put_low_rank(found) == data, "a second spelling of factors"
    count = min(found.count, _NUMBERS_MAX)
    width = found.source.width_bytes
    numbers = np.resize(np.frombuffer(PREDICTED, np.uint8), count * width).tobytes()
    whole = found.apply(numbers, 0)
    assert len(whole) == count * found.target.width_bytes
    for first, end in ((0, 1), (count // 3, count // 2), (count - 1, count)):
        if first < end:
            part = found.apply(numbers[first * width : end * width], first)
            made = slice(first * found.target.width_bytes, end * found.target.width_bytes)
            assert part == whole[made], "a part is not as in the whole"
    last = found.count - 1
    assert len(found.apply(numbers[:width], last)) == found.target.width_bytes


def _parsed(data: bytes) -> LowRank:
    """As the kernel's factors are taken where there is one, and as the twin's are: the same, or
    both are refused."""
    found: list[LowRank | DeltaError] = []
    for factors in (coder.factors, lambda *_given: None):
        with patched.object(coder, "factors", factors):
            try:
                found.append(parse_low_rank(Cursor(data, "a map")))
            except DeltaError as error:
                found.append(error)
    one, other = found
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        assert put_low_rank(one) == put_low_rank(other), "kernel and twin differ"
        return one
    assert isinstance(one, DeltaError) and isinstance(other, DeltaError), "only one refuses"
    raise one


def text(data: bytes) -> None:
    """Any bytes as a text: what one makes that looks at them one after the other."""
    expected, at = bytearray(), 0
    while at < len(data):
        lead = data[at]
        if lead in (194, 195) and data[at + 1 : at + 2] and 128 <= data[at + 1] < 192:
            expected.append(data[at + 1] + 64 * (lead == 195))
            at += 2
        else:
            expected.append(lead)
            at += 1
    assert TextMap().apply(data) == bytes(expected).ljust(len(data), b"\0")


def patch(data: bytes) -> None:
    """A body that its frame packs: lengths of windows and operations, and the length that the
    record has (two bytes each), then windows, operations and new bytes."""
    fields = data[:6].ljust(6, b"\0")
    windows, packed, length = (int.from_bytes(fields[at : at + 2], "little") for at in (0, 2, 4))
    operations = data[6 + windows : 6 + windows + packed]
    new = data[6 + windows + packed :]
    head = data[6 : 6 + windows] + varints(len(operations), len(new))
    body = head + _packer().pack(new + operations, Effort.QUICK)
    context = _context()
    found = open_patch(Cursor(body, "a record"), length, context)
    assert put_operations(found.operations, PATCHED_AT) == operations, "a second spelling"
    made = _made(body, length, 0, context)  # refuses what is not there, so all below is
    expected = _expected(found, PREDICTED + _MADE)
    assert len(expected) == length, "another length than the record's"
    assert made == expected
    for skip in (length // 3, length):
        assert _made(body, length, skip, context) == expected[skip:]


def _made(body: bytes, length: int, skip: int, context: DecodeContext) -> bytes:
    pieces = Patch().decode(Cursor(body, "a record"), length, skip, context)
    return b"".join(map(bytes, pieces))


def _expected(new: New, known: bytes) -> bytes:
    out, literals, differences = b"", bytes(new.literals), bytes(new.differences)
    for one in new.operations:
        out += literals[: one.literal]
        literals = literals[one.literal :]
        before = known[one.address : one.address + one.changed]
        out += bytes((x + y) % 256 for x, y in zip(before, differences, strict=False))
        differences = differences[one.changed :]
        out += known[one.address + one.changed : one.end]
    return out


@lru_cache(maxsize=1)
def _packer() -> Packer:
    return Packer()


def _context() -> DecodeContext:
    context = DecodeContext(
        [file_ref("s", PREDICTED)],
        lambda _file, at, count: PREDICTED[at : at + count],
        [file_ref("t", _MADE + bytes(1 << 16))],
        lambda _file, at, count: _MADE[at : at + count],
    )
    context.position = PATCHED_AT
    return context
