"""Numbers of different widths in one stream of bits, the lowest first. Source: FORMAT.md,
"Streams"."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
_ONE, _SIX, _LAST, _WORD = (np.uint64(n) for n in (1, 6, 63, 64))


def put(values: U64, widths: U64) -> bytes:
    """``values``, each below 2**width, both of shape (n,); padded with zeros to whole bytes."""
    ends = np.cumsum(widths, dtype=np.uint64)
    total = int(ends[-1]) if len(ends) else 0
    words = np.zeros(total // 64 + 2, "<u8")
    kept = np.flatnonzero(widths)
    if not len(kept):
        return b""
    values, starts = values[kept], (ends - widths)[kept]
    word, bit = starts >> _SIX, starts & _LAST
    first = np.flatnonzero(np.diff(word, prepend=word[:1] + _ONE))
    words[word[first].astype(np.intp)] = np.bitwise_or.reduceat(values << bit, first)
    # What does not fit a word begins the next; only the last value of a word can do that.
    over = np.flatnonzero(bit + widths[kept] > _WORD)
    words[(word[over] + _ONE).astype(np.intp)] |= (values[over] >> _ONE) >> (_LAST - bit[over])
    return words.tobytes()[: (total + 7) // 8]


def words_of(data: bytes | bytearray | memoryview) -> NDArray[Any]:
    """What ``take`` reads from: the bits as 64-bit words, with room behind them."""
    words = np.zeros(len(data) // 8 + 2, "<u8")
    words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    return words


def take(words: NDArray[Any], starts: U64, widths: U64) -> U64:
    """The numbers at bit positions ``starts``, all of which lie within the stream."""
    word, bit = (starts >> _SIX).astype(np.intp), starts & _LAST
    both: U64 = words[word] >> bit
    both |= (words[word + 1] << _ONE) << (_LAST - bit)
    # Two shifts, for widths of 0 and of 64.
    return both & (((_ONE << (widths >> _ONE)) << (widths - (widths >> _ONE))) - _ONE)
