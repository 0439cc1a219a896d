"""``residual``: numeric difference from a prediction. Source: FORMAT.md, "residual"."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_sdk.delta import coder
from edge_sdk.delta.coder.leaning import Leans
from edge_sdk.delta.coder.tables import ALONE, LEANING, CodeTable
from edge_sdk.delta.frames import Bytes
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.methods.elements import Levels, Split, parse_split
from edge_sdk.delta.varint import Cursor, varints

# What is predicted, what is made, and levels.
_WORKING_COPIES = 3


class Residual:
    number = 4
    name = "residual"
    spans_chunks = False
    takes_code = True

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        return body_bytes + _WORKING_COPIES * length

    def encode(
        self,
        source: Bytes,
        target: Bytes,
        *,
        phase: int,
        slot: int,
        position: int,
        code_slot: int,
        table: CodeTable,
        levels: Levels,
        lanes_log2: int,
        leans: Leans | None = None,
    ) -> bytes | None:
        """The body behind the place; None where ``table`` lacks a symbol.

        ``source`` and ``target`` have the same length. ``phase``: bytes before the first
        whole element; ``position``: where in the prediction of table ``slot`` the source
        bytes begin; ``leans``: of the elements, for a table of model ``LEANING``.
        """
        parts = Split(length=len(target), phase=phase, kind=table.kind)
        before, after = parts.elements(source), parts.elements(target)
        stream = coder.encode(table, before, after, levels, 1 << lanes_log2, leans=leans)
        if stream is None:
            return None
        head = varints(slot, position, code_slot, phase, lanes_log2)
        return head + parts.edges(target) + stream

    def decode(
        self,
        body: Cursor,
        length: int,
        skip: int,
        context: DecodeContext,
    ) -> Iterator[Bytes]:
        slot, position = body.varint(), body.varint()
        table = context.code(body.varint())
        if table.model == ALONE:
            raise body.error("has a prediction, but a code that takes none")
        parts, lanes = parse_split(body, length, table.kind)
        edges = body.take(parts.edge_bytes)
        leans = None
        if table.model == LEANING:
            predicted, lean_bytes = context.predict_leaning(
                slot, position, length, phase=parts.phase, width_bytes=table.kind.width_bytes
            )
            source = np.frombuffer(predicted, table.kind.bits)
            leans = np.frombuffer(lean_bytes, np.uint8)
        else:
            source = parts.elements(context.predict(slot, position, length))
        made = context.room(length)
        coder.decode(table, source, lanes, body.rest(), parts.elements(made), leans=leans)
        parts.put_edges(made, edges)
        yield made
