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
from tests.independent_decoder.test_predictions import (
    INTEGERS,
    all_symbols,
    by_lean,
    numbers,
    whole_range,
)
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
            crafted.table(varints(slot) + bytes([0, 0, 0, 0, 8]))
        return crafted.data(2, place(len(data)), frame).build()

    tables = (64 << 10) + (12 << 20) * mapped + (5 << 18) * codes
    prefix = len(prefix_of(container(tables)))
    needed = prefix + tables + len(varints(0, 0, len(data))) + len(frame) + len(data)
    assert taken(container(needed))
    assert not taken(container(needed - 1))


@pytest.mark.parametrize("element", range(8))
def test_damaged_tables_by_lean_agree(element: int) -> None:
    """Code tables of model 4 with a bit turned, most often in the head, so of other models too."""
    chance = random.Random(element)
    table = pack(all_symbols(element, chance))
    for number in range(24):
        turned = number if number < 16 else chance.randrange(8 * len(table))
        body = damaged(table, turned)
        taken(Crafted(targets=[file_ref("t", b"")]).table(varints(8) + body).build())
    assert taken(Crafted(targets=[file_ref("t", b"")]).table(varints(8) + table).build())


# A cast of ten numbers of float32 to float16, and what is none of the value maps that have leans.
CAST = whole_range(bytes(40), 1, varints(6, 4))
NO_LEANS = {
    "plain": varints(1, 0, 0, 40, 0, 0, 0, 0, 0),
    "strides": varints(1, 0, 0, 2, 1, 10, 8, 0, 0, 0, 0),
    "text": varints(1, 0, 0, 40, 0, 0, 0, 6, 0),
}
FLOAT16 = 4


def takes_by_lean(prediction: bytes, element: int, position: int, phase: int, length: int) -> bool:
    """Whether both decoders take a record of model 4 without differences."""
    kind, model, symbols = (element, 3), (4, 3), (1, 1)
    bits = "".join(
        format(number, f"0{count}b")[::-1]
        for number, count in (kind, model, (0, 6), (0, 3), (0, 6), (0, 6), (0, 8), symbols)
    )
    table = int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
    count, tail = divmod(length - phase, (1, 2, 4, 8, 2, 2, 4, 8)[element])
    stream = bytes([0]) + (1 << 16).to_bytes(4, "little") * (count > 0)
    target = bytes(length)
    source = bytes(40)
    crafted = (
        Crafted(targets=[file_ref("t", target)], sources=[file_ref("s", source)], mapped=True)
        .table(varints(0) + prediction)
        .table(varints(8) + table)
        .data(4, place(length), varints(0, position, 8, phase, 0) + bytes(phase + tail) + stream)
    )
    return taken(crafted.build(), [source])


@pytest.mark.parametrize("element", range(8))
def test_leans_are_of_numbers_as_wide(element: int) -> None:
    """Any kind of element of 16 bits has the leans of float16."""
    assert takes_by_lean(CAST, element, 0, 0, 16) == (element in (1, 4, 5))


@pytest.mark.parametrize("name", NO_LEANS)
@pytest.mark.parametrize("element", [0, 4])
@pytest.mark.parametrize("length", [1, 8])
def test_predictions_without_leans_are_refused(name: str, element: int, length: int) -> None:
    """Whatever else is right, and where there is no whole element."""
    assert not takes_by_lean(NO_LEANS[name], element, 0, 0, length)


@pytest.mark.parametrize(
    ("position", "phase", "length", "good"),
    [
        (0, 0, 20, True),
        (1, 1, 19, True),
        (1, 0, 18, False),
        (0, 1, 19, False),
        (2, 1, 18, False),
        (18, 0, 2, True),
        (18, 0, 4, False),
        (3, 1, 1, True),
        (3, 0, 1, False),
        (18, 0, 3, False),
        (20, 0, 1, False),
        (22, 0, 1, False),
    ],
)
def test_elements_by_lean_begin_numbers(position: int, phase: int, length: int, good: bool) -> None:
    """The first whole one, also where there is none; edges lie within the prediction."""
    assert takes_by_lean(CAST, FLOAT16, position, phase, length) == good


@pytest.mark.parametrize("target", [8, 4, 5, 6])
def test_damaged_records_by_lean_agree(target: int) -> None:
    """One bit turned in a record of model 4, its prediction or its table."""
    chance = random.Random(target)
    kind, count = (6 if target != 6 else 7), 60
    source = numbers(kind, count, chance)
    parameters = varints(kind, target)
    number = 3 if target in INTEGERS else 1
    if number == 3:
        parameters += varints(1, 2, 1, 6) + b"\0\0\x80\x3f" * 2 + varints(0)
    width = {8: 1, 4: 2, 5: 2, 6: 4}[target]
    delta, _, _ = by_lean(whole_range(source, number, parameters), source, width, chance)
    assert taken(delta, [source])
    bodies = [at for _, start, end in record_spans(delta) for at in range(start + 3, end - 4)]
    for _ in range(20):
        out = bytearray(delta)
        out[chance.choice(bodies)] ^= 1 << chance.randrange(8)
        taken(resealed(bytes(out)), [source])
