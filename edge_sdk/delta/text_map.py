"""Bytes that a pickle of an old protocol wrote as text: the value map ``text``.

Python 3 keeps bytes in pickles up to protocol 2 (NumPy arrays of objects, arrays in files of
torch.save) as UTF-8 of the characters U+0000 to U+00FF. Source: FORMAT.md, "Value maps".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.strides import ReadSource
from edge_sdk.delta.value_maps import NUMBER_KINDS, Bytes, NumberKind, Operation

TEXT_BYTES_MAX = 1 << 20
_LOWER, _UPPER = 0xC2, 0xC3
_BYTE = NUMBER_KINDS["uint8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMap:
    """The bytes that a text stands for, then zeros: as many as the text has itself."""

    operation: Operation = Operation.TEXT
    source: NumberKind = _BYTE
    target: NumberKind = _BYTE

    def loaded(self, _read_source: ReadSource) -> TextMap:
        """Nothing is taken from elsewhere."""
        return self

    def apply(self, data: Bytes) -> bytes:
        """All of the text at once: where a byte stands depends on all before it."""
        return unpacked_text(data).ljust(len(data), b"\0")


def unpacked_text(data: Bytes) -> bytes:
    """The bytes that a text stands for; what is no such text as it is."""
    text = np.frombuffer(data, np.uint8)
    leads = lead_places(text)
    made = text.copy()
    made[1:] |= (leads[:-1] & (text[:-1] == _UPPER)).astype(np.uint8) << 6
    return made[~leads].tobytes()


def lead_places(text: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes are the first of a character of two."""
    found = np.zeros(len(text), np.bool_)
    found[:-1] = ((text[:-1] & 0xFE) == _LOWER) & ((text[1:] & 0xC0) == 0x80)
    return found
