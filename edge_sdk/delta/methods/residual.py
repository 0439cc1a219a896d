"""``residual``: numeric difference from a prediction. Source: FORMAT.md, "residual".

Elements are grouped stably by the exponent of the source, since that says most about the
size of the difference; then byte planes, then zstd.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_sdk.base import DeltaError
from edge_sdk.delta import numeric
from edge_sdk.delta.frames import Bytes, Effort, Packer
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.numeric import ElementKind
from edge_sdk.delta.varint import Cursor, varints

# Measured with NumPy 2.4 on 1 MiB: the order is 8 bytes for each element (8 times the
# bytes of int8 is not needed, it is not sorted), the rest are copies of the elements.
_WORKING_COPIES = 12
# A frame of at most this share of its data is worth the slow search; 4-byte elements have
# two planes that no search compresses.
_SPARSE_SHARE_NARROW = 0.4
_SPARSE_SHARE_WIDE = 0.2


class Residual:
    number = 4
    name = "residual"
    spans_chunks = False

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        return body_bytes + _WORKING_COPIES * length

    def encode(
        self,
        source: Bytes,
        target: Bytes,
        *,
        kind: ElementKind,
        phase: int,
        slot: int,
        position: int,
        packer: Packer,
    ) -> bytes:
        """The body behind the place. ``source`` and ``target`` have the same length.

        ``phase``: bytes before the first whole element; ``position``: where in the
        prediction of table ``slot`` the source bytes begin.
        """
        before = np.frombuffer(source, np.uint8)
        after = np.frombuffer(target, np.uint8)
        middle = _middle(len(before), phase, kind)
        from_bits, to_bits = (part[middle].view(kind.bits) for part in (before, after))
        folded = numeric.fold(from_bits, to_bits, kind)
        if kind.is_float:
            folded = folded[_order(from_bits, kind)]
        edges = after - before
        data = b"".join(
            (
                numeric.planes(folded, kind),
                edges[: middle.start].tobytes(),
                edges[middle.stop :].tobytes(),
            )
        )
        return varints(slot, position, kind.number, phase) + _pack(data, kind, packer)

    def decode(
        self,
        body: Cursor,
        length: int,
        skip: int,
        context: DecodeContext,
    ) -> Iterator[Bytes]:
        slot, position = body.varint(), body.varint()
        number, phase = body.varint(), body.varint()
        if number >= len(numeric.KINDS):
            raise DeltaError(f"a record has elements of kind {number}, unknown to this release")
        kind = numeric.KINDS[number]
        if phase >= kind.width_bytes or phase > length:
            raise DeltaError(f"a record has {phase} bytes before its first element")
        source = np.frombuffer(context.predict(slot, position, length), np.uint8)
        data = np.frombuffer(context.unpacker.unpack(body.rest(), length), np.uint8)
        middle = _middle(length, phase, kind)
        edges_at = middle.stop - middle.start
        target = np.empty(length, np.uint8)
        target[:phase] = source[:phase] + data[edges_at : edges_at + phase]
        target[middle.stop :] = source[middle.stop :] + data[edges_at + phase :]
        target[middle] = _restore(source[middle].view(kind.bits), data[:edges_at], kind).view(
            np.uint8
        )
        yield target.data


def _pack(data: bytes, kind: ElementKind, packer: Packer) -> bytes:
    """The frame; searched for longer where little changed and it pays (frames.py)."""
    packed = packer.pack(data, Effort.PLANES)
    share = _SPARSE_SHARE_NARROW if kind.width_bytes <= 2 else _SPARSE_SHARE_WIDE
    if len(packed) > share * len(data):
        return packed
    return min(packed, packer.pack(data, Effort.SPARSE_PLANES), key=len)


def _middle(length: int, phase: int, kind: ElementKind) -> slice:
    """The range of whole elements."""
    return slice(phase, phase + (length - phase) // kind.width_bytes * kind.width_bytes)


def _order(source: numeric.Bits, kind: ElementKind) -> numeric.Bits:
    return np.argsort(numeric.exponents(source, kind), kind="stable")


def _restore(source: numeric.Bits, data: numeric.Bits, kind: ElementKind) -> numeric.Bits:
    folded = numeric.unplanes(data, kind)
    if kind.is_float:
        grouped = folded
        folded = np.empty_like(grouped)
        folded[_order(source, kind)] = grouped
    return numeric.unfold(source, folded, kind)
