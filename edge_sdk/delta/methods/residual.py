"""``residual``: numeric difference from a prediction. Source: FORMAT.md, "residual".

Elements are grouped stably by the exponent of the source, since that says most about the
size of the difference; then byte planes, or a list of what is not zero; then zstd.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_sdk.base import DeltaError
from edge_sdk.delta import numeric
from edge_sdk.delta.frames import Bytes, Effort, Packer
from edge_sdk.delta.gaps import Bytes8, gap_bytes_max, listed_max, put_gaps, spread
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.numeric import Bits, ElementKind
from edge_sdk.delta.varint import Cursor, varints

_DENSE = 0
_SPARSE = 1

# Measured with NumPy 2.4 on 1 MiB: the order takes 8 bytes for each element, the rest are
# copies of the elements.
_WORKING_COPIES = 12
# A frame of at most this share of its data is worth the slow search; 4-byte elements have
# two planes that no search compresses.
_SLOW_SHARE_NARROW = 0.4
_SLOW_SHARE_WIDE = 0.2


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
        rest = edges[: middle.start].tobytes() + edges[middle.stop :].tobytes()
        forms = [_put_dense(folded, rest, kind, packer)]
        if np.count_nonzero(folded) <= listed_max(len(folded)):
            forms.append(_put_sparse(folded, rest, kind, packer))
        return varints(slot, position, kind.number, phase) + min(forms, key=len)

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
        middle = _middle(length, phase, kind)
        count = (middle.stop - middle.start) // kind.width_bytes
        edge_bytes = length - (middle.stop - middle.start)
        folded, edges = _parse_form(body, count, edge_bytes, kind, context)
        source = np.frombuffer(context.predict(slot, position, length), np.uint8)
        target = np.empty(length, np.uint8)
        target[:phase] = source[:phase] + edges[:phase]
        target[middle.stop :] = source[middle.stop :] + edges[phase:]
        target[middle] = _restore(source[middle].view(kind.bits), folded, kind).view(np.uint8)
        yield target.data


def _middle(length: int, phase: int, kind: ElementKind) -> slice:
    """The range of whole elements."""
    return slice(phase, phase + (length - phase) // kind.width_bytes * kind.width_bytes)


def _order(source: Bits, kind: ElementKind) -> Bits:
    return np.argsort(numeric.exponents(source, kind), kind="stable")


def _restore(source: Bits, folded: Bits, kind: ElementKind) -> Bits:
    if kind.is_float:
        grouped = folded
        folded = np.empty_like(grouped)
        folded[_order(source, kind)] = grouped
    return numeric.unfold(source, folded, kind)


def _put_dense(folded: Bits, rest: bytes, kind: ElementKind, packer: Packer) -> bytes:
    """Form and frame; searched for longer where little changed and it pays (frames.py)."""
    parts = [*numeric.planes(folded, kind), rest]
    packed = packer.pack_planes(parts)
    share = _SLOW_SHARE_NARROW if kind.width_bytes <= 2 else _SLOW_SHARE_WIDE
    few = np.count_nonzero(folded) <= listed_max(len(folded))
    if not few and len(packed) <= share * folded.nbytes:
        packed = min(packed, packer.pack(b"".join(parts), Effort.SPARSE_PLANES), key=len)
    return varints(_DENSE) + packed


def _put_sparse(folded: Bits, rest: bytes, kind: ElementKind, packer: Packer) -> bytes:
    gaps, listed = put_gaps(folded)
    listed -= kind.bits.type(1)
    parts = [gaps.tobytes(), *numeric.planes(listed, kind), rest]
    slow = packer.pack(b"".join(parts), Effort.SPARSE_PLANES)
    frame = min(packer.pack_planes(parts), slow, key=len)
    return varints(_SPARSE, len(listed), len(gaps)) + frame


def _parse_form(
    body: Cursor, count: int, edge_bytes: int, kind: ElementKind, context: DecodeContext
) -> tuple[Bits, Bytes8]:
    """The numbers of all ``count`` elements, and the differences of the bytes beside them."""
    form = body.varint()
    if form == _DENSE:
        planes_bytes = count * kind.width_bytes
        data = _unpack(body, planes_bytes + edge_bytes, context)
        return numeric.unplanes(data[:planes_bytes], kind), data[planes_bytes:]
    if form != _SPARSE:
        raise DeltaError(f"a record has numbers in form {form}, unknown to this release")
    listed_count, gap_bytes = body.varint(), body.varint()
    if listed_count > listed_max(count) or gap_bytes > gap_bytes_max(count, listed_count):
        raise DeltaError(f"a record lists {listed_count} of {count} numbers: too many")
    planes_end = gap_bytes + listed_count * kind.width_bytes
    data = _unpack(body, planes_end + edge_bytes, context)
    listed = numeric.unplanes(data[gap_bytes:planes_end], kind) + kind.bits.type(1)
    if not np.all(listed):
        raise DeltaError("a record lists a number that is zero")
    return spread(data[:gap_bytes], listed, count), data[planes_end:]


def _unpack(body: Cursor, length: int, context: DecodeContext) -> Bytes8:
    return np.frombuffer(context.unpacker.unpack(body.rest(), length), np.uint8)
