"""Python's way into the kernel (csrc/module.c): no call makes it leave a buffer, or keep one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from edge_sdk.delta.coder.tables import CodeTable, Table, pack
from edge_sdk.delta.numeric import KINDS
from tests.support.code_tables import fitting
from tests.support.deltas import tuned, weights

_kernel = pytest.importorskip("edge_sdk.delta._kernel", exc_type=ImportError)
kernel = pytest.importorskip("edge_sdk.delta.coder.kernel", exc_type=ImportError)

ARGUMENT, TABLE = -1, -2
BFLOAT16 = KINDS[5]
COUNT = 600
Arguments = dict[str, object]


def coded() -> tuple[CodeTable, np.ndarray, np.ndarray, np.ndarray]:
    """A table with two levels, and what it codes."""
    source = weights("bfloat16", COUNT, 1)
    target, levels = tuned(source, 2, 40), np.array([0, 1, 0], np.uint8)
    even = Table(shift=0, symbols=(0, 1), frequencies=(2048, 2048))
    one = Table(shift=1, symbols=(0,), frequencies=(4096,))
    shape = CodeTable(
        kind=BFLOAT16,
        model=0,
        bounds=(),
        levels=2,
        cells=(0, 1),
        tables=(one, one),
        level_tables=(even, even),
    )
    table = fitting(shape, source, target, levels)
    assert table is not None
    return table, source, target, levels


def calls() -> dict[str, Arguments]:
    """Right arguments of each function, by their names, in their order."""
    table, source, target, levels = coded()
    stream = kernel.encode(table, source, target, levels, 8)
    kind, model, level_count, table_of, raw_bits = kernel._shape(table)
    shape = {"kind": kind, "model": model, "level_count": level_count}
    shape |= {"table_of": table_of.copy(), "raw_bits": raw_bits.copy()}
    frequencies = dict(
        zip(
            ("counts", "symbols", "frequencies", "of_levels", "level_symbols", "level_shares"),
            (*kernel._joined(table.tables), *kernel._joined(table.level_tables)),
            strict=True,
        )
    )
    both = {"source": source.view("u1"), "target": target.view("u1")}
    encoder, decoder = kernel._encoder(table).memory, kernel._decoder(table, False).memory
    scratch_bytes, stream_bytes = _kernel.encode_bytes(encoder, COUNT, 8)
    rows, columns = (np.zeros(2 * count, np.uint8) for count in (2, 3))
    # Twice a weight of 1, and factors that are all 0: no low bits, and a one for each.
    factors = np.packbits(
        [0, 0, 0, 0, *[0] * 3, *[1] * 2, *[0] * 3, *[1] * 3] * 2, bitorder="little"
    )
    keys, groups = {"means": np.ones(256, np.uint32)}, {"levels": levels}
    return {
        "scales": {"kind": kind, **both, "out": zeros(256), "sums": zeros(256)},
        "levels": {"kind": kind, **both, **keys, "out": np.zeros(3, np.uint8)},
        "bins": shape,
        "histogram": {**shape, **both, **groups, "out": np.zeros((2, 512), np.uint32)},
        "encoder_bytes": shape,
        "decoder_bytes": shape,
        "make_encoder": {**shape, **frequencies, "out": encoder.copy()},
        "make_decoder": {**shape, **frequencies, "out": decoder.copy()},
        "encode_bytes": {"coder": encoder, "count": COUNT, "lanes": 8},
        "encode": {
            **{"coder": encoder, **both, **groups, "lanes": 8},
            "scratch": zeros(scratch_bytes // 8 + 1).view("u1"),
            "out": zeros(stream_bytes // 8 + 1).view("u1"),
        },
        "decode": {
            **{"coder": decoder, "source": source.view("u1"), "lanes": 8, "stream": stream},
            "scratch": zeros(_kernel.decode_scratch_bytes() // 8 + 1).view("u1"),
            "out": np.zeros(2 * COUNT, np.uint8),
        },
        "parse_table": {"body": pack(table), "out": np.zeros(4096, np.uint16)},
        "parse_factors": {
            **{"bits": factors, "shifts": np.zeros(2, np.uint8)},
            **{"left": rows, "out": columns},
        },
    }


def zeros(count: int) -> np.ndarray:
    return np.zeros(count, np.uint64)


def askew(array: np.ndarray) -> np.ndarray:
    """The same bytes at an odd address."""
    apart = np.zeros(array.nbytes + 8, np.uint8)
    start = 1 if apart.ctypes.data % 2 == 0 else 2
    apart[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    return apart[start : start + array.nbytes]


def shorter(array: np.ndarray) -> np.ndarray:
    """Without its last byte."""
    return array.reshape(-1).view(np.uint8)[:-1]


def longer(array: np.ndarray) -> np.ndarray:
    return np.append(array.reshape(-1), array.reshape(-1)[:1])


def more_tables(array: np.ndarray) -> np.ndarray:
    return np.resize(array, 257)


Change = Callable[[np.ndarray], object]
SHAPED = ("bins", "histogram", "encoder_bytes", "decoder_bytes", "make_encoder", "make_decoder")
SIZES = ("encoder_bytes", "decoder_bytes")  # 0, whatever is wrong with a shape
MAKERS = ("make_encoder", "make_decoder")
PAIRED = ("scales", "levels", "histogram", "encode")
WRONG: list[tuple[str, str, Change, int]] = [
    *(
        (name, "kind", change, TABLE if name in SIZES else ARGUMENT)
        for name in ("scales", "levels", *SHAPED)
        for change in (lambda _kind: -1, lambda _kind: 8)
    ),
    *((name, "level_count", lambda _count: 9, ARGUMENT) for name in SHAPED),
    *((name, "table_of", shorter, ARGUMENT) for name in SHAPED),
    *((name, "model", lambda _model: 7, TABLE) for name in SHAPED),
    *((name, "raw_bits", more_tables, ARGUMENT) for name in MAKERS),
    *((name, "source", change, ARGUMENT) for name in PAIRED for change in (shorter, longer)),
    *((name, "target", change, ARGUMENT) for name in PAIRED for change in (shorter, longer)),
    *((name, "levels", change, ARGUMENT) for name in ("encode", "histogram") for change in (shorter, longer)),
    *((name, "out", change, ARGUMENT) for name in ("scales", "levels", "histogram") for change in (shorter, longer)),
    *((name, "out", askew, ARGUMENT) for name in ("scales", "histogram")),
    *(("scales", "sums", change, ARGUMENT) for change in (shorter, longer, askew)),
    *(("levels", "means", change, ARGUMENT) for change in (shorter, longer, askew)),
    *(
        (name, part, change, ARGUMENT)
        for name, part, change in product(
            MAKERS,
            ("counts", "symbols", "frequencies", "of_levels", "level_symbols", "level_shares"),
            (shorter, longer, askew),
        )
    ),
    *((name, "out", lambda out: out[:64], ARGUMENT) for name in MAKERS),
    *(("decode", part, shorter, ARGUMENT) for part in ("source", "out")),
    *((name, "coder", lambda coder: coder[:-8], ARGUMENT) for name in ("encode", "decode")),
    *((name, "lanes", lambda _lanes: 2, ARGUMENT) for name in ("encode", "decode")),
    ("parse_table", "out", askew, ARGUMENT),
    ("parse_table", "body", lambda body: body + bytes(1 << 13), ARGUMENT),
    ("parse_table", "body", lambda body: body[:-1], TABLE),
    ("parse_factors", "shifts", lambda shifts: shifts[:0], ARGUMENT),
    *(("parse_factors", part, shorter, ARGUMENT) for part in ("left", "out")),
    ("parse_factors", "bits", shorter, TABLE),
]  # fmt: skip


@pytest.mark.parametrize("name", calls())
def test_right_arguments_are_taken(name: str) -> None:
    """What the tests below change is right before."""
    found = getattr(_kernel, name)(*calls()[name].values())
    assert min(found if isinstance(found, tuple) else (found,)) >= 0


@pytest.mark.parametrize(
    ("name", "argument", "change", "error"),
    WRONG,
    ids=[f"{number}-{name}-{argument}" for number, (name, argument, *_) in enumerate(WRONG)],
)
def test_one_wrong_argument_is_refused(
    name: str, argument: str, change: Change, error: int
) -> None:
    """Numbers out of range, buffers that are too short, too long or not aligned; what would be
    written is as it was."""
    arguments = calls()[name]
    arguments[argument] = change(arguments[argument])  # type: ignore[arg-type]
    before = {
        key: value.copy() for key, value in arguments.items() if isinstance(value, np.ndarray)
    }
    assert getattr(_kernel, name)(*arguments.values()) == error
    written = ("out", "sums")
    for key in written:
        if key in before and name not in (*MAKERS, "parse_table", "parse_factors"):
            assert np.array_equal(arguments[key], before[key])


def test_no_sizes_for_a_negative_count() -> None:
    """Nothing is asked for where nothing can be."""
    arguments = calls()["encode_bytes"]
    assert _kernel.encode_bytes(arguments["coder"], -1, 8) == (0, 0)


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, right in calls().items() for place in range(len(right))]
)  # fmt: skip
def test_arguments_of_another_type_leave_no_buffer_held(name: str, place: int) -> None:
    """A call that fails at any argument gives back the buffers of those before it."""
    held = bytearray(8)
    arguments = [
        held if isinstance(one, np.ndarray | bytes) else one for one in calls()[name].values()
    ]
    arguments[place] = object()
    with pytest.raises(TypeError):
        getattr(_kernel, name)(*arguments)
    held.append(0)  # a BufferError where somebody holds it
