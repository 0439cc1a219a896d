"""Records of method `patch`, after "Methods" of FORMAT.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.independent_decoder.addresses import Addresses
from tests.independent_decoder.frames import unpack
from tests.independent_decoder.reading import MIB, Reader, need

WINDOWS_MAX = 64
WINDOWS_BYTES_MAX = NEW_BYTES_MAX = MIB
OPERATION_BYTES_MAX = 65536


@dataclass(frozen=True)
class Operation:
    """New bytes, then bytes from an address on: some that change, and some that do not."""

    literal: int
    changed: int
    copied: int
    address: int

    @property
    def length(self) -> int:
        return self.literal + self.changed + self.copied


def patched(reader: Reader, length: int, origin: int, addresses: Addresses) -> bytes:
    """What the body behind the place makes; ``origin`` is the record's."""
    history = read_windows(reader, origin, addresses)
    operation_bytes, new_bytes = reader.varint(), reader.varint()
    need(operation_bytes <= OPERATION_BYTES_MAX, "bytes of operations")
    need(new_bytes <= NEW_BYTES_MAX, "new bytes")
    held = unpack(reader.rest(), new_bytes + operation_bytes, history)
    operations = read_operations(held[new_bytes:], length, origin)
    literals = sum(one.literal for one in operations)
    changed = sum(one.changed for one in operations)
    need(sum(one.length for one in operations) == length, "length of a patch")
    need(literals + changed == new_bytes, "new bytes are left over or missing")
    return made_by(operations, held[:literals], held[literals:new_bytes], addresses)


def read_windows(reader: Reader, origin: int, addresses: Addresses) -> bytes:
    """The bytes of all windows; none where there are no windows."""
    count = reader.varint()
    need(count <= WINDOWS_MAX, "number of windows")
    address, total = origin, 0
    found = []
    for _ in range(count):
        address += reader.zigzag()
        length = reader.varint()
        total += length
        need(length >= 1 and total <= WINDOWS_BYTES_MAX, "length of a window")
        found.append(addresses.read(address, length))
        address += length
    return b"".join(found)


def read_operations(data: bytes, length: int, origin: int) -> list[Operation]:
    """The operations of a record that makes ``length`` bytes."""
    reader = Reader(data)
    operations: list[Operation] = []
    expected = origin
    while reader.left():
        literal, changed, copied = reader.varint(), reader.varint(), reader.varint()
        address = expected
        if changed + copied:
            address += literal + reader.zigzag()
            need(address >= 0, "an address below 0")
            expected = address + changed + copied
        else:
            need(literal >= 1 and reader.left() == 0, "an operation that refers to nothing")
        operations.append(Operation(literal, changed, copied, address))
    need(len(operations) <= 16 + length // 16, "number of operations")
    return operations


def made_by(
    operations: list[Operation], literals: bytes, differences: bytes, addresses: Addresses
) -> bytes:
    """All that the operations make."""
    literal_bytes, difference_bytes = Reader(literals), Reader(differences)
    made = []
    for one in operations:
        made.append(literal_bytes.take(one.literal))
        if one.changed + one.copied == 0:
            continue
        before = addresses.read(one.address, one.changed + one.copied)
        made.append(added(before[: one.changed], difference_bytes.take(one.changed)))
        made.append(before[one.changed :])
    return b"".join(made)


def added(first: bytes, second: bytes) -> bytes:
    """The sum, byte for byte, modulo 256."""
    return (np.frombuffer(first, np.uint8) + np.frombuffer(second, np.uint8)).tobytes()
