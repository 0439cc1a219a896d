"""``planes``: numbers without a prediction: their upper bits coded, the lower ones as they
are; integers also by their differences from zero. Source: FORMAT.md, "planes"."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_sdk.delta import coder
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCE, CodeTable
from edge_sdk.delta.frames import Bytes
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.methods.elements import Levels, Split, parse_split
from edge_sdk.delta.numeric import Bits
from edge_sdk.delta.varint import Cursor, varints

# What is made, zeros in the place of what is predicted, and levels.
_WORKING_COPIES = 3


class Planes:
    number = 5
    name = "planes"
    spans_chunks = False
    takes_code = True

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        return body_bytes + _WORKING_COPIES * length

    def encode(
        self,
        target: Bytes,
        *,
        phase: int,
        code_slot: int,
        table: CodeTable,
        levels: Levels,
        lanes_log2: int,
    ) -> bytes | None:
        """The body behind the place; None where ``table`` lacks a symbol."""
        parts = Split(length=len(target), phase=phase, kind=table.kind)
        source, lanes = _source(table, parts), 1 << lanes_log2
        stream = coder.encode(table, source, parts.elements(target), levels, lanes)
        if stream is None:
            return None
        return varints(code_slot, phase, lanes_log2) + parts.edges(target) + stream

    def decode(
        self,
        body: Cursor,
        length: int,
        skip: int,
        context: DecodeContext,
    ) -> Iterator[Bytes]:
        table = context.code(body.varint())
        if table.model != ALONE and (table.model != DIFFERENCE or table.kind.is_float):
            raise body.error("has no prediction, but a code that needs one")
        parts, lanes = parse_split(body, length, table.kind)
        edges = body.take(parts.edge_bytes)
        made = context.room(length)
        coder.decode(table, _source(table, parts), lanes, body.rest(), parts.elements(made))
        parts.put_edges(made, edges)
        yield made


def _source(table: CodeTable, parts: Split) -> Bits | None:
    """What the differences of integers are from."""
    return None if table.model == ALONE else np.zeros(parts.count, table.kind.bits)
