"""Patch records, after "patch" of FORMAT.md."""

from __future__ import annotations

from tests.independent_decoder.frames import unpack
from tests.independent_decoder.reading import MIB, Reader, need


def patched(reader: Reader, length: int, there: bytes, origin: int) -> bytes:
    """What a record makes of ``there``, all bytes that it may refer to by their addresses."""
    prefix = _windows(reader, there, origin)
    operation_bytes, new_bytes = reader.varint(), reader.varint()
    need(operation_bytes <= 65536 and new_bytes <= MIB, "a patch is too long")
    content = unpack(reader.rest(), operation_bytes + new_bytes, prefix or None)
    operations = _operations(Reader(content[new_bytes:]), origin, 16 + length // 16)
    literals = Reader(content[: sum(literal for literal, *_ in operations)])
    differences = Reader(content[len(literals.data) : new_bytes])
    need(sum(sum(one[:3]) for one in operations) == length, "length of a patch")
    need(sum(one[0] + one[1] for one in operations) == new_bytes, "new bytes of a patch")
    made = bytearray()
    for literal, changed, copied, address in operations:
        made += literals.take(literal)
        need(address + changed + copied <= len(there), "a patch refers to what is not there")
        middle, end = address + changed, address + changed + copied
        steps = differences.take(changed)
        made += bytes((x + y) & 255 for x, y in zip(there[address:middle], steps, strict=True))
        made += there[middle:end]
    return bytes(made)


def _windows(reader: Reader, there: bytes, expected: int) -> bytes:
    count = reader.varint()
    need(count <= 64, "windows of a patch")
    found = bytearray()
    for _ in range(count):
        address = expected + reader.zigzag()
        length = reader.varint()
        expected = address + length
        need(address >= 0 and 1 <= length <= MIB and expected <= len(there), "a window")
        found += there[address:expected]
    need(len(found) <= MIB, "windows of a patch are too long")
    return bytes(found)


def _operations(reader: Reader, expected: int, most: int) -> list[tuple[int, int, int, int]]:
    """Literal, changed, copied and the address of each."""
    found = []
    while reader.left():
        literal, changed, copied = reader.varint(), reader.varint(), reader.varint()
        address = 0
        if changed + copied:
            address = expected + literal + reader.zigzag()
            expected = address + changed + copied
            need(address >= 0, "an address")
        else:
            need(literal > 0 and not reader.left(), "an operation of nothing")
        found.append((literal, changed, copied, address))
        need(len(found) <= most, "operations of a patch")
    return found
