"""Files of ggml by hand: GGUF, and the older form in which tensors follow a model's own header."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

# Types of values of keys.
UINT32, STRING, ARRAY, UINT64 = 4, 8, 9, 10


@dataclass
class GgmlTensor:
    """``dimensions`` as ggml has them: the fastest first."""

    name: str
    number: int
    dimensions: tuple[int, ...]
    data: bytes


def string(text: str | bytes) -> bytes:
    content = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(content)) + content


def key(name: str, kind: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


def array(kind: int, items: Sequence[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


KEYS = (
    key("general.architecture", STRING, string("net")),
    key("net.count", UINT64, struct.pack("<Q", 3)),
    key("tokens", ARRAY, array(STRING, [string("a"), string("bc"), string("")])),
    key("scores", ARRAY, array(6, [struct.pack("<f", 0.5)] * 3)),
)


def gguf(
    tensors: Sequence[GgmlTensor],
    *,
    keys: Sequence[bytes] = KEYS,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    stated, data = b"", b""
    for one in tensors:
        data += bytes(-len(data) % alignment)
        stated += string(one.name) + struct.pack("<I", len(one.dimensions))
        stated += struct.pack(f"<{len(one.dimensions)}Q", *one.dimensions)
        stated += struct.pack("<IQ", one.number, len(data))
        data += one.data
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    head += b"".join(keys) + stated
    return head + bytes(-len(head) % alignment) + data


def ggml(tensors: Sequence[GgmlTensor], *, header: bytes = b"\x07\0\0\0words") -> bytes:
    parts = [b"lmgg", header]
    for one in tensors:
        name = one.name.encode()
        parts.append(struct.pack("<iii", len(one.dimensions), len(name), one.number))
        parts += [struct.pack(f"<{len(one.dimensions)}i", *one.dimensions), name, one.data]
    return b"".join(parts)
