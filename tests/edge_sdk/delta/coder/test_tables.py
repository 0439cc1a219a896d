"""Code tables: one spelling each, and everything else is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError
from edge_sdk.delta.coder.tables import (
    ALONE,
    DIFFERENCE,
    GIVEN,
    UNREFLECTED,
    CodeTable,
    Table,
    is_possible,
    pack,
    parse,
    raw_shift,
    rounded,
)
from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.varint import Cursor
from tests.support.code_tables import code_tables, one_table

FLOAT16, BFLOAT16, INT8, FLOAT32 = KINDS[4], KINDS[5], KINDS[0], KINDS[6]


def parsed(body: bytes) -> CodeTable:
    return parse(Cursor(body, "a table"))


@given(code_tables())
def test_tables_come_back(table: CodeTable) -> None:
    """Every table that may be is packed and parsed to itself."""
    assert parsed(pack(table)) == table


@given(code_tables(), st.data())
def test_changed_bits_are_refused_or_another_table(table: CodeTable, data: st.DataObject) -> None:
    """One spelling each: what parses packs to the same bytes again."""
    body = bytearray(pack(table))
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    try:
        found = parsed(bytes(body))
    except DeltaError:
        return
    assert found != table
    assert pack(found) == bytes(body)


@given(code_tables(), st.data())
def test_truncated_and_longer_bodies_are_refused(table: CodeTable, data: st.DataObject) -> None:
    """Nothing is left out, nothing stands behind."""
    body = pack(table)
    cut = data.draw(st.integers(0, len(body) - 1))
    for wrong in (body[:cut], body + b"\x00", body + b"\x01"):
        with pytest.raises(DeltaError):
            parsed(wrong)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_only_typed_errors(body: bytes) -> None:
    """And what is accepted has one spelling."""
    try:
        found = parsed(body)
    except DeltaError:
        return
    assert pack(found) == body


GOOD = replace(
    one_table(BFLOAT16, DIFFERENCE, (0, 3, 31), (4002, 88, 6)),
    bounds=(3, 200),
    levels=2,
    cells=(0, 0, 1, 0, 1, 1),
    tables=(
        Table(shift=2, symbols=(0, 3, 31), frequencies=(4002, 88, 6)),
        Table(shift=0, symbols=(0, 1), frequencies=(4095, 1)),
    ),
    level_tables=(
        Table(shift=0, symbols=(0, 1), frequencies=(1, 4095)),
        Table(shift=0, symbols=(0, 1), frequencies=(2048, 2048)),
    ),
)


def with_symbols(*symbols: int, shift: int = 0, kind: ElementKind = INT8) -> CodeTable:
    frequencies = (4096 - len(symbols) + 1, *(1 for _ in symbols[1:]))
    table = one_table(kind, DIFFERENCE, symbols, frequencies)
    return replace(table, tables=(replace(table.tables[0], shift=shift),))


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (replace(with_symbols(0), model=UNREFLECTED), "model 3"),
        (replace(with_symbols(0), model=GIVEN), "model 1"),
        (replace(GOOD, bounds=(200, 3)), "ascend"),
        (replace(GOOD, bounds=(0, 3)), "ascend"),
        (replace(GOOD, bounds=(3, 3)), "ascend"),
        (replace(with_symbols(0), bounds=(3,), cells=(0, 0)), "classes"),
        (replace(GOOD, model=ALONE), "classes"),
        (replace(GOOD, cells=(1, 0, 1, 0, 1, 1)), "out of order"),
        (replace(GOOD, cells=(0, 0, 0, 0, 0, 0)), "no cell uses"),
        (with_symbols(0, shift=8), "8 bits"),
        (one_table(FLOAT16, GIVEN, (0,), (4096,), shift=9), "9 bits"),
        (one_table(FLOAT32, ALONE, (0,), (4096,), shift=0), "0 bits"),
        (one_table(INT8, ALONE, (0,), (4096,), shift=1), "1 bits"),
        (one_table(INT8, DIFFERENCE, (0, 1, 2), (2049, 2048, 2048)), "too little"),
        (one_table(INT8, DIFFERENCE, (0, 1, 2), (3000, 2048, 2048)), "too little"),
        (with_symbols(0, 57), "symbol 57"),
        (with_symbols(0, 55), "symbol 55"),
        (with_symbols(0, 55, 56), "symbol 56"),
        (with_symbols(0, 16, shift=4), "symbol 16"),
        (one_table(FLOAT16, ALONE, (0, 64), (4095, 1)), "symbol 64"),
        (replace(GOOD, level_tables=(with_symbols(0, 2).tables[0],) * 2), "level 2 of 2"),
        (replace(GOOD, level_tables=GOOD.level_tables[:1]), "ends within"),
    ],
)
def test_impossible_tables_are_refused(table: CodeTable, problem: str) -> None:
    """Each rule of the text by itself."""
    assert parsed(pack(GOOD)) == GOOD
    with pytest.raises(DeltaError, match=problem):
        parsed(pack(table))


def test_large_numbers_are_refused() -> None:
    """Thirteen zeros and more begin no number, and no frequency is longer than the scale."""
    with pytest.raises(DeltaError, match="too large a number"):
        parsed(bytes(7) + b"\xff")
    long = one_table(INT8, DIFFERENCE, (0, 1), (5000, 4096))
    with pytest.raises(DeltaError, match="too large"):
        parsed(pack(long))


@pytest.mark.parametrize(("one", "written"), [(1, 1), (15, 15), (17, 18), (90, 88), (127, 128)])
def test_frequencies_have_four_bits(one: int, written: int) -> None:
    """The nearest that can be written."""
    assert rounded(one) == written
    assert rounded(written) == written


def symbol_of(quotient: int) -> int:
    """As the text says it."""
    size = abs(quotient)
    if size < 16:
        return 2 * size if quotient >= 0 else 2 * size - 1
    top = size.bit_length() - 1
    return 31 + ((top - 4) * 4 + ((size >> (top - 2)) & 3)) * 2 + (quotient < 0)


@pytest.mark.parametrize("bits", range(1, 13))
def test_possible_symbols_are_those_of_possible_quotients(bits: int) -> None:
    """Exactly the symbols that some difference has."""
    half = 1 << (bits - 1)
    wanted = {symbol_of(quotient) for quotient in range(-half, half)}
    kind = KINDS[1]
    found = {symbol for symbol in range(600) if is_possible(kind, DIFFERENCE, 16 - bits, symbol)}
    assert found == wanted


def test_other_models_leave_the_mantissa() -> None:
    """Floats keep it raw, integers all but their upper eight bits."""
    assert [raw_shift(kind, ALONE) for kind in KINDS] == [0, 8, 24, 56, 10, 7, 23, 52]
