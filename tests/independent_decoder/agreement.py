"""Whether both decoders take a container, and damage to what they are given."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.base import DeltaError
from tests.independent_decoder.decode import Decoder
from tests.support.deltas import Target


def taken(delta: bytes, sources: Sequence[bytes] = ()) -> bool:
    """Whether the decoders take it; they must agree, and where they do, on every byte."""
    target = Target(sources)
    try:
        decoder = target.decoder()
        decoder.feed(delta)
        decoder.finish()
        ours = [bytes(data) for data in target.files]
    except DeltaError:
        ours = None
    try:
        other = Decoder(delta, sources, 32 << 20).run(0, 0, 0, 0)
    except ValueError:
        other = None
    assert ours == other
    return ours is not None


def damaged(body: bytes, bit: int) -> bytes:
    """The body with one bit turned."""
    out = bytearray(body)
    out[bit // 8 % len(out)] ^= 1 << bit % 8
    return bytes(out)
