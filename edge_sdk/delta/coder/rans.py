"""Asymmetric numeral systems with static frequencies, in plain Python. Source: FORMAT.md,
"Streams".

Each step needs the state that the one before left, so there is nothing for NumPy to do at
once: with 32 lanes, its calls cost what a loop does.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import DeltaError
from edge_sdk.delta.coder.tables import SCALE, SCALE_BITS, Table

STATE_MIN = 1 << 16
LANES = {0: 1, 3: 8, 5: 32}  # by the number that stands for them

_PIECE = 1 << 15


class Prepared:
    """Tables as arrays. ``frequency`` and ``before`` have shape (tables, symbol limit); the
    others one entry for each of the 4096 slots of each table, one table after the other."""

    def __init__(self, tables: Sequence[Table]) -> None:
        limit = max(table.symbols[-1] for table in tables) + 1
        self.frequency = np.zeros((len(tables), limit), np.uint32)
        self.before = np.zeros((len(tables), limit), np.uint32)
        self.symbol = np.zeros(len(tables) * SCALE, np.uint16)
        self.slot_frequency = array("H")
        self.slot_offset = array("H")
        for number, table in enumerate(tables):
            frequencies = np.array(table.frequencies, np.uint32)
            starts = np.cumsum(frequencies) - frequencies
            symbols = list(table.symbols)
            self.frequency[number, symbols] = frequencies
            self.before[number, symbols] = starts
            self.symbol[number * SCALE : (number + 1) * SCALE] = np.repeat(symbols, frequencies)
            offsets = np.arange(SCALE) - np.repeat(starts, frequencies)
            self.slot_frequency.frombytes(
                np.repeat(frequencies, frequencies).astype(np.uint16).tobytes()
            )
            self.slot_offset.frombytes(offsets.astype(np.uint16).tobytes())


def encode(
    prepared: Prepared, tables: NDArray[np.uint8], symbols: NDArray[np.uint16], lanes: int
) -> tuple[bytes, bytes] | None:
    """States and words; None where a symbol has no frequency. Both arrays of shape (n,)."""
    if len(symbols) == 0:
        return b"", b""
    if int(symbols.max()) >= prepared.frequency.shape[1]:
        return None
    states = [STATE_MIN] * lanes
    words: list[int] = []
    count = len(symbols)
    for start in range((count - 1) // _PIECE * _PIECE, -1, -_PIECE):
        part = slice(start, min(start + _PIECE, count))
        frequencies = prepared.frequency[tables[part], symbols[part]]
        if not frequencies.all():
            return None
        before = prepared.before[tables[part], symbols[part]]
        _push(frequencies.tolist(), before.tolist(), states, words)
    packed = np.array(words[::-1], "<u2").tobytes()
    return np.array(states, "<u4").tobytes(), packed


def _push(frequencies: list[int], before: list[int], states: list[int], words: list[int]) -> None:
    """Codes a piece that begins at lane 0, from its end to its beginning."""
    lanes = len(states)
    shift = 32 - SCALE_BITS
    for number in range(len(frequencies) - 1, -1, -1):
        frequency = frequencies[number]
        state = states[number % lanes]
        if state >= frequency << shift:
            words.append(state & 0xFFFF)
            state >>= 16
        whole, part = divmod(state, frequency)
        states[number % lanes] = (whole << SCALE_BITS) + part + before[number]


class Decoder:
    """Takes symbols from states and words, a piece at a time. Raises: DeltaError."""

    def __init__(self, prepared: Prepared, states: bytes, words: bytes) -> None:
        self._prepared = prepared
        self._states = [int(one) for one in np.frombuffer(states, "<u4")]
        self._words = array("H")
        self._words.frombytes(np.frombuffer(words, "<u2").astype(np.uint16).tobytes())
        self._at = 0
        if any(state < STATE_MIN for state in self._states):
            raise DeltaError("a record's symbols begin in a state that cannot be")

    def take(self, tables: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """The next symbols, one for each entry of ``tables``, which are a whole number for
        each lane unless they are the last."""
        rows = (tables.astype(np.uint32) << np.uint32(SCALE_BITS)).tolist()
        slots = []
        frequencies, offsets = self._prepared.slot_frequency, self._prepared.slot_offset
        states, words, at = self._states, self._words, self._at
        try:
            for row, lane in zip(rows, cycle(range(len(states))), strict=False):
                state = states[lane]
                slot = row + (state & (SCALE - 1))
                slots.append(slot)
                state = frequencies[slot] * (state >> SCALE_BITS) + offsets[slot]
                if state < STATE_MIN:
                    state = state << 16 | words[at]
                    at += 1
                states[lane] = state
        except IndexError:
            raise DeltaError("a record's symbols end too early") from None
        self._at = at
        return self._prepared.symbol[slots]

    def end(self) -> None:
        """Refuses what is left."""
        if self._at != len(self._words) or any(state != STATE_MIN for state in self._states):
            raise DeltaError("a record's symbols do not end where they began")
