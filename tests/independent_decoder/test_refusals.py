"""FORMAT.md says what is refused: damaged bodies are taken or refused by both decoders alike."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.delta.coder.tables import CodeTable, pack
from edge_sdk.delta.varint import varints
from tests.independent_decoder.agreement import damaged, taken
from tests.support.code_tables import code_tables
from tests.support.deltas import (
    Crafted,
    encoded,
    file_ref,
    place,
    prefix_of,
    record_spans,
    resealed,
    safetensors,
    tuned,
    weights,
    write_folder,
)


@settings(max_examples=150)
@given(table=code_tables(), places=st.lists(st.integers(0, 4000), max_size=3))
def test_damaged_code_tables_agree(table: CodeTable, places: list[int]) -> None:
    """A code table of any shape with a few bits turned."""
    body = pack(table)
    for turned in places:
        body = damaged(body, turned)
    delta = Crafted(targets=[file_ref("t", b"")]).table(varints(8) + body).build()
    assert taken(delta) or places


PATHS = [
    ["A", "a"],
    ["ss", "ß"],
    ["\u0390", "\u03aa\u0301"],
    ["A", "a/b"],
    ["/".join("a" * 16)],
    ["/".join("a" * 17)],
    ["e\u0301"],
    ["\ue000"],
]


@pytest.mark.parametrize("paths", PATHS)
def test_paths_agree(paths: list[str]) -> None:
    """Paths that fall together when folded, are too deep, or are not in form NFC."""
    delta = Crafted(targets=[file_ref(path, b"") for path in paths], folder=True).build()
    assert taken(delta) == (paths in [["/".join("a" * 16)], ["\ue000"]])


@pytest.mark.parametrize("kind", ["bfloat16", "float32", "int16"])
def test_damaged_records_agree(tmp_path: Path, kind: str) -> None:
    """One bit turned in a record or the index, all checks made anew: the same bytes, or none."""
    before = weights(kind, 400, 1)
    source = {"m": safetensors({"w": (kind, before)}), "t": bytes(range(200)) * 3}
    target = {"m": safetensors({"w": (kind, tuned(before, 2))}), "t": source["t"][5:] + b"more"}
    delta = encoded(write_folder(tmp_path / "s", source), write_folder(tmp_path / "t", target))
    sources = list(source.values())
    assert taken(delta, sources)
    chance = random.Random(1)
    bodies = [at for _, start, end in record_spans(delta) for at in range(start + 3, end - 4)]
    index = 18 + int.from_bytes(delta[10:14], "little")
    bodies += range(index, len(prefix_of(delta)) - 4)
    refused = 0
    for _ in range(300):
        out = bytearray(delta)
        out[chance.choice(bodies)] ^= 1 << chance.randrange(8)
        refused += not taken(resealed(bytes(out)), sources)
    assert refused > 0


@pytest.mark.parametrize(("mapped", "codes"), [(False, 0), (True, 0), (False, 1), (True, 2)])
def test_memory_is_counted_alike(mapped: bool, codes: int) -> None:
    """The least memory that a header must say: what is set so far, and the record itself."""
    data = b"abcdefgh" * 20
    frame = zstandard.ZstdCompressor(write_content_size=True).compress(data)

    def container(memory_bytes: int) -> bytes:
        crafted = Crafted(targets=[file_ref("t", data)], mapped=mapped, memory_bytes=memory_bytes)
        for slot in range(8, 8 + codes):
            crafted.table(varints(slot) + bytes([0, 0, 0, 0, 2]))
        return crafted.data(2, place(len(data)), frame).build()

    tables = (64 << 10) + (8 << 20) * mapped + (5 << 18) * codes
    prefix = len(prefix_of(container(tables)))
    needed = prefix + tables + len(varints(0, 0, len(data))) + len(frame) + len(data)
    assert taken(container(needed))
    assert not taken(container(needed - 1))
