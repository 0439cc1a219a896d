"""Weights of which some became zero and the others stayed, as pruning makes them."""

from __future__ import annotations

import numpy as np

from edge_sdk.delta.frames import Bytes
from edge_sdk.delta.numeric import ElementKind

# How far a number is from zero takes nearly as many bits as the number. A compressor that sees
# the source says instead which numbers stayed, at 2 to 4 bits a weight, but 50 times slower:
# only where a sample shows little else. Narrower numbers than these are shorter by their code.
_WIDTH_BYTES_MIN = 2
_SAMPLE_BYTES = 64 << 10
_ZEROS_SHARE = 0.95
_CHANGED_SHARE = 0.05


def looks_pruned(before: Bytes, after: Bytes, kind: ElementKind, phase: int) -> bool:
    """Whether a sample of ``after`` holds the numbers of ``before``, but for zeros; ``phase``
    bytes stand before the first whole one."""
    width = kind.width_bytes
    if width < _WIDTH_BYTES_MIN or len(before) < len(after):
        return False
    start = phase + max(0, (len(after) - _SAMPLE_BYTES) // 2) // width * width
    count = max(0, min(_SAMPLE_BYTES, len(after) - start)) // width
    source, target = (np.frombuffer(data, kind.bits, count, start) for data in (before, after))
    changed = target[source != target] << kind.bits.type(1)  # -0.0, too, is zero
    zeros = int(np.count_nonzero(changed == 0))
    return len(changed) > _CHANGED_SHARE * count and zeros >= _ZEROS_SHARE * len(changed)
