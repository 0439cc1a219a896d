"""Each method alone: what it makes and what it refuses."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError, WrongSourceError
from edge_sdk.delta.coder.policy import Policy
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCE, LEANING, CodeTable, Table, raw_shift
from edge_sdk.delta.frames import Effort, Packer
from edge_sdk.delta.methods import (
    NAMES,
    REGISTRY,
    Copy,
    DecodeContext,
    Literal,
    Method,
    Patch,
    Planes,
    Residual,
)
from edge_sdk.delta.methods.copy import PIECE_BYTES
from edge_sdk.delta.methods.elements import Split
from edge_sdk.delta.methods.patch import (
    NEW_BYTES_MAX,
    OPERATIONS_BYTES_MAX,
    WINDOWS_BYTES_MAX,
    New,
    Operation,
    Window,
)
from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.prediction import Prediction, SourceRange
from edge_sdk.delta.text_map import TextMap
from edge_sdk.delta.value_maps import NUMBER_KINDS, ValueMap
from edge_sdk.delta.value_maps import Operation as MapOperation
from edge_sdk.delta.varint import Cursor, varints
from tests.support.code_tables import one_table
from tests.support.deltas import file_ref, tuned, weights

PACKER = Packer()


def context(*sources: bytes) -> DecodeContext:
    refs = tuple(file_ref(f"s{number}", data) for number, data in enumerate(sources))
    found = DecodeContext(refs, lambda file, at, count: sources[file][at : at + count])
    if sources and sources[0]:
        whole = SourceRange(file=0, offset=0, length=len(sources[0]))
        found.tables[0] = Prediction(ranges=(whole,))
    return found


def made(
    method: object, tail: bytes, length: int, given_context: DecodeContext, skip: int = 0
) -> bytes:
    pieces = method.decode(Cursor(tail, "a record"), length, skip, given_context)  # type: ignore[attr-defined]
    return b"".join(bytes(piece) for piece in pieces)


def test_the_registry_names_each_method_once() -> None:
    """Numbers and names are those of FORMAT.md, none twice."""
    found = [(number, method.name) for number, method in REGISTRY.items()]
    assert found == [(1, "copy"), (2, "literal"), (3, "patch"), (4, "residual"), (5, "planes")]
    assert (*(name for _, name in found), "maps", "repeats") == NAMES
    spanning = [method.name for method in REGISTRY.values() if method.spans_chunks]
    assert spanning == ["copy", "patch"]


def test_only_bounded_memory_is_asked_for() -> None:
    """A chunk of any method decodes within 16 MiB; a copy needs one piece however long it is."""
    assert all(method.memory_bytes(1 << 20, 1 << 20) < 16 << 20 for method in REGISTRY.values())
    assert Copy().memory_bytes(1 << 50, 20) == 20 + PIECE_BYTES


# --- copy -----------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 49))
def test_copy_makes_the_range_without_what_is_skipped(offset: int, length: int, skip: int) -> None:
    """Any range, from any byte of it on."""
    source = bytes(range(100))
    tail = Copy().encode(offset)
    skip = min(skip, length)
    expected = source[offset + skip : offset + length]
    assert made(Copy(), tail, length, context(source), skip) == expected


@pytest.mark.parametrize("tail", [varints(1), varints(101), varints(2**63 - 1), varints(0, 0), b""])
def test_copy_refuses_what_no_source_has(tail: bytes) -> None:
    """A range past the end, far past it, and bodies of the wrong length."""
    with pytest.raises(DeltaError):
        made(Copy(), tail, 100, context(bytes(100)))


# --- literal --------------------------------------------------------------------------


def test_literal_makes_what_it_holds() -> None:
    """And needs no source."""
    tail = Literal().encode(b"abc" * 99, PACKER, Effort.DENSE)
    assert made(Literal(), tail, 297, context()) == b"abc" * 99


# --- patch ----------------------------------------------------------------------------


def patch(
    operations: Sequence[Operation],
    literals: bytes = b"",
    differences: bytes = b"",
    *,
    windows: Sequence[Window] = (),
    dictionary: bytes = b"",
    position: int = 0,
) -> bytes:
    new = New(operations=operations, literals=literals, differences=differences)
    options = {"position": position, "packer": PACKER, "effort": Effort.DENSE}
    return Patch().encode(new, windows, dictionary, **options)


def test_patch_uses_its_windows() -> None:
    """A changed word in a known text takes a fraction of the text, found in two windows of two
    files."""
    source = " ".join(str(i * i) for i in range(2000)).encode()
    target = source.replace(b" 1000000 ", b" a million ")
    files = source[:3000], source[3000:]
    windows = [Window(address=0, length=5000), Window(address=6000, length=len(source) - 6000)]
    dictionary = source[:5000] + source[6000:]
    tail = patch([Operation(literal=len(target))], target, windows=windows, dictionary=dictionary)
    assert len(tail) < 700
    assert made(Patch(), tail, len(target), context(*files)) == target


@given(st.data())
def test_patch_makes_what_its_operations_say(data: st.DataObject) -> None:
    """Literals, changed and copied bytes of any lengths from anywhere, from any byte on."""
    source = np.random.default_rng(1).bytes(300)
    operations, literals, differences, target = [], b"", b"", b""
    for _ in range(data.draw(st.integers(1, 6))):
        literal, changed = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))
        copied = data.draw(st.integers(1, 40))
        address = data.draw(st.integers(0, 300 - changed - copied))
        operations.append(
            Operation(literal=literal, changed=changed, copied=copied, address=address)
        )
        new = data.draw(st.binary(min_size=literal, max_size=literal))
        steps = data.draw(st.binary(min_size=changed, max_size=changed))
        literals, differences = literals + new, differences + steps
        before = source[address : address + changed]
        target += new + bytes((x + y) % 256 for x, y in zip(before, steps, strict=True))
        target += source[address + changed : address + changed + copied]
    if data.draw(st.booleans()):
        operations.append(Operation(literal=3))
        literals, target = literals + b"end", target + b"end"
    found = context(source[:100], source[100:])
    found.position = data.draw(st.integers(0, 1000))
    tail = patch(operations, literals, differences, position=found.position)
    skip = data.draw(st.integers(0, len(target)))
    assert made(Patch(), tail, len(target), found, skip) == target[skip:]


@pytest.mark.parametrize(
    ("windows", "problem"),
    [
        ((1, 0, 0), "no byte"),
        ((1, 1, 5), "before the first"),
        ((1, 0, WINDOWS_BYTES_MAX + 1), "too many"),
        ((1, 100, 51), "no source"),
        ((65,), "too many"),
    ],
)
def test_patch_refuses_impossible_windows(windows: tuple[int, ...], problem: str) -> None:
    """Empty, before the first byte, too large, past the end, or too many."""
    with pytest.raises(DeltaError, match=problem):
        made(Patch(), varints(*windows) + b"frame", 3, context(bytes(100)))


@pytest.mark.parametrize(
    ("operations", "problem"),
    [
        (varints(3, 0, 0, 7, 0, 0), "refers to nothing"),
        (varints(10, 0, 0, 0, 0, 0), "refers to nothing"),
        (varints(9, 0, 1, 2 * 9 + 1), "before the first"),
        (varints(9, 0, 1, 2 * 91), "no source"),
        (varints(9, 0, 2, 0), "bytes that it claims"),
        (varints(8, 0, 2, 0), "bytes that it claims"),
        (varints(8, 0, 1, 0), "bytes that it claims"),
        (varints(9, 1, 0, 0), "bytes that it claims"),
        (varints(10, 0), "ends within"),
        (varints(0, 1, 0, 0) * 17, "too many for so few"),
    ],
)
def test_patch_refuses_impossible_operations(operations: bytes, problem: str) -> None:
    """Nothing referred to, ranges that are not there, and other totals than the record's."""
    frame = PACKER.pack(b"new bytes" + operations, Effort.DENSE)
    with pytest.raises(DeltaError, match=problem):
        made(Patch(), varints(0, len(operations), 9) + frame, 10, context(bytes(100)))


def test_patch_refuses_more_operations_than_bytes_are_worth() -> None:
    """Each operation takes time: one for 16 bytes, and a few more."""
    for count, fits in ((18, True), (19, False)):
        operations = [Operation(copied=1, address=9) for _ in range(count - 1)]
        operations.append(Operation(copied=16, address=50))
        tail = patch(operations)
        length = count + 15
        if fits:
            assert made(Patch(), tail, length, context(bytes(100))) == bytes(length)
        else:
            with pytest.raises(DeltaError, match="too many for so few"):
                made(Patch(), tail, length, context(bytes(100)))


def test_patch_refuses_more_than_it_may_hold() -> None:
    """New bytes and operations are bounded before the frame is looked at."""
    for lengths in ((1, NEW_BYTES_MAX + 1), (OPERATIONS_BYTES_MAX + 1, 1)):
        with pytest.raises(DeltaError, match="more operations or new bytes"):
            made(Patch(), varints(0, *lengths) + b"frame", 10, context())


# --- the target so far ----------------------------------------------------------------


def repeating(source: bytes, target: bytes, position: int) -> DecodeContext:
    """A record at ``position`` of a target of two files may read what is before it."""
    half = len(target) // 2
    files = target[:half], target[half:]
    found = DecodeContext(
        [file_ref("s", source)],
        lambda _file, at, count: source[at : at + count],
        [file_ref(f"t{number}", data) for number, data in enumerate(files)],
        lambda file, at, count: files[file][at : at + count],
    )
    found.position = position
    return found


def test_a_copy_reads_source_and_target_as_one() -> None:
    """Addresses go on from the source's last file into the target's first and second."""
    source, target = bytes(range(50)), bytes(range(100, 150))
    for address, length in ((0, 90), (45, 10), (60, 30), (50, 40)):
        whole = source + target
        tail = Copy().encode(address)
        found = made(Copy(), tail, length, repeating(source, target, 40))
        assert found == whole[address : address + length]


@pytest.mark.parametrize(("address", "length"), [(50, 41), (90, 1), (91, 1), (0, 91), (99, 1)])
def test_bytes_at_or_behind_the_record_are_refused(address: int, length: int) -> None:
    """What is not made yet cannot be read, not even what the record itself makes."""
    with pytest.raises(DeltaError, match="may not read yet"):
        made(Copy(), Copy().encode(address), length, repeating(bytes(50), bytes(50), 40))
    window = [Window(address=address, length=length)]
    tail = patch([Operation(literal=1)], b"x", windows=window, dictionary=b"d", position=40)
    with pytest.raises(DeltaError, match="may not read yet"):
        made(Patch(), tail, 1, repeating(bytes(50), bytes(50), 40))
    for parts in ({"changed": length}, {"copied": length}):
        differences = bytes(parts.get("changed", 0))
        tail = patch([Operation(address=address, **parts)], b"", differences, position=40)
        with pytest.raises(DeltaError, match="may not read yet"):
            made(Patch(), tail, length, repeating(bytes(50), bytes(50), 40))


def test_a_target_that_answers_with_less_is_an_error() -> None:
    """Bytes that were written must come back."""
    found = repeating(bytes(50), bytes(50), 40)
    found._read_target = lambda _file, _offset, _count: b""
    with pytest.raises(DeltaError, match="target file 0 ends"):
        made(Copy(), Copy().encode(50), 5, found)


# --- residual -------------------------------------------------------------------------


def coded(
    source: bytes | None, target: bytes, kind: ElementKind, phase: int, position: int = 0
) -> tuple[Method, bytes, CodeTable]:
    """As ``residual``, or without ``source`` as ``planes``, with a table of its own."""
    parts = Split(length=len(target), phase=phase, kind=kind)
    zeros = None if kind.is_float else bytes(len(target))
    before = zeros if source is None else source[position : position + len(target)]
    choice = Policy().choose(
        kind,
        None if before is None else parts.elements(before),
        parts.elements(target),
        alone=source is None,
    )
    assert choice is not None
    shared = {"phase": phase, "code_slot": choice.slot, "table": choice.table}
    shared |= {"levels": choice.levels, "lanes_log2": 3}
    if source is None:
        return Planes(), Planes().encode(target, **shared), choice.table
    tail = Residual().encode(before, target, slot=0, position=position, **shared)
    return Residual(), tail, choice.table


def remade(method: Method, tail: bytes, length: int, source: bytes, table: CodeTable) -> bytes:
    """What a decoder makes that has ``table`` in slot 8."""
    given_context = context(source)
    given_context.codes[8] = table
    return made(method, tail, length, given_context)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_residual_makes_tuned_weights_from_few_bytes(kind: ElementKind) -> None:
    """Weights a little further on come back, in less than they take compressed alone."""
    before = weights(kind.name, 20_000, 1)
    after = tuned(before, 2).tobytes()
    method, tail, table = coded(before.tobytes(), after, kind, 0)
    alone = Literal().encode(after, PACKER, Effort.QUICK)
    assert remade(method, tail, len(after), before.tobytes(), table) == after
    assert len(tail) < 0.8 * len(alone)


@pytest.mark.parametrize("kind", KINDS[4:7], ids=lambda kind: kind.name)
def test_planes_make_weights_from_less_than_compressed(kind: ElementKind) -> None:
    """Weights without a prediction take no more than zstd makes of them."""
    after = weights(kind.name, 20_000, 1).tobytes()
    method, tail, table = coded(None, after, kind, 0)
    assert remade(method, tail, len(after), b"", table) == after
    assert len(tail) < len(Literal().encode(after, PACKER, Effort.DENSE))


def test_small_integers_without_a_prediction_take_few_bits() -> None:
    """Wide integers that are small: by their differences from zero."""
    after = np.random.default_rng(5).integers(-20, 21, 20_000).astype("<i2").tobytes()
    method, tail, table = coded(None, after, KINDS[1], 0)
    assert (method.name, table.model) == ("planes", 0)
    assert remade(method, tail, len(after), b"", table) == after
    assert len(tail) < 0.4 * len(after)


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("alone", [False, True])
@given(data=st.data())
def test_any_bytes_come_back(kind: ElementKind, alone: bool, data: st.DataObject) -> None:
    """Any source and target, any phase, any position, cut elements at both ends."""
    target = data.draw(st.binary(min_size=1, max_size=40))
    position = data.draw(st.integers(0, 9))
    size = position + len(target)
    source = data.draw(st.binary(min_size=size, max_size=size))
    phase = data.draw(st.integers(0, min(kind.width_bytes - 1, len(target))))
    elements = (len(target) - phase) // kind.width_bytes
    if not elements or (alone and kind.name == "float64"):
        return  # never chosen: none, or more symbols than a histogram has columns
    method, tail, table = coded(None if alone else source, target, kind, phase, position)
    assert remade(method, tail, len(target), source, table) == target


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("every", [3, 200, 5000])
def test_few_changes_take_few_bytes(kind: ElementKind, every: int) -> None:
    """One change in a few, or in thousands, comes back from a byte or two for each."""
    before = weights(kind.name, 40_001, 1)
    after = before.copy()
    after[::every] += np.array(1, kind.bits)
    method, tail, table = coded(before.tobytes(), after.tobytes(), kind, 0)
    assert remade(method, tail, after.nbytes, before.tobytes(), table) == after.tobytes()
    assert len(tail) < 100 + 2 * 40_001 // every


def test_steps_that_follow_the_exponent_take_less() -> None:
    """Than the same steps shuffled."""
    chance = np.random.default_rng(3)
    exponents = chance.integers(100, 130, 40_000).astype("<u4")
    before = exponents << 23 | chance.integers(0, 1 << 23, 40_000).astype("<u4")
    after = before + (chance.integers(0, 2, 40_000).astype("<u4") << (exponents - 100) // 2)
    mixed = before + (after - before)[chance.permutation(40_000)]
    sizes = [
        len(coded(before.tobytes(), target.tobytes(), KINDS[6], 0)[1]) for target in (after, mixed)
    ]
    assert sizes[0] < 0.8 * sizes[1]


def table_of(kind: int, model: int = 0) -> CodeTable:
    shift = 0 if model == 0 else raw_shift(KINDS[kind], model)
    return CodeTable(
        kind=KINDS[kind],
        model=model,
        bounds=(),
        levels=1,
        cells=(0,),
        tables=(Table(shift=shift, symbols=(0,), frequencies=(4096,)),),
        level_tables=(),
    )


# No words, one lane, eight unchanged bytes.
GOOD = b"\x00" + (1 << 16).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("method", "tail", "length", "problem"),
    [
        (Residual(), varints(1, 0, 8, 0, 0) + GOOD, 8, "not in force"),
        (Residual(), varints(0, 0, 9, 0, 0) + GOOD, 8, "code table 9, which is not in force"),
        (Residual(), varints(0, 0, 0, 0, 0) + GOOD, 8, "code table 0, which is not in force"),
        (Residual(), varints(0, 93, 8, 0, 0) + GOOD, 8, "more of"),
        (Residual(), varints(0, 0, 10, 0, 0) + GOOD, 8, "a code that takes none"),
        (Residual(), varints(0, 0, 8, 4, 0), 8, "before its first element"),
        (Residual(), varints(0, 0, 8, 3, 0), 2, "before its first element"),
        (Residual(), varints(0, 0, 8, 0, 1) + GOOD, 8, "lanes"),
        (Residual(), varints(0, 0, 8, 3, 0), 8, "too early"),
        (Residual(), varints(0, 0, 8, 0, 0), 8, "early|ends"),
        (Residual(), varints(0, 0, 8, 0, 0) + GOOD + b"\x00", 8, "."),
        (Planes(), varints(8, 0, 0) + GOOD, 8, "a code that needs one"),
        (Planes(), varints(9, 0, 0) + GOOD, 8, "not in force"),
        (Planes(), varints(10, 4, 0) + GOOD, 8, "before its first element"),
        (Planes(), varints(10, 0, 4) + GOOD, 8, "lanes"),
        (Planes(), varints(10, 0, 0) + GOOD, 8, "."),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    method: Method, tail: bytes, length: int, problem: str
) -> None:
    """Tables not in force, of the wrong sort, too little or too much of a prediction or stream."""
    given_context = context(bytes(max(100, length)))
    given_context.codes |= {8: table_of(6), 10: table_of(6, ALONE)}
    with pytest.raises(DeltaError, match=problem):
        made(method, tail, length, given_context)


def test_the_shortest_residual_is_good() -> None:
    """The control of the refusals: nothing changed, in five bytes behind its head."""
    given_context = context(bytes(range(100)))
    given_context.codes[8] = table_of(6)
    tail = varints(0, 4, 8, 0, 0) + GOOD
    assert made(Residual(), tail, 8, given_context) == bytes(range(4, 12))


def test_a_short_source_is_a_wrong_source() -> None:
    """A source that ends too early is told apart from a damaged delta."""
    refs = (file_ref("weights", bytes(100)),)
    short = DecodeContext(refs, lambda _file, _at, _count: b"")
    with pytest.raises(WrongSourceError, match="'weights'"):
        made(Copy(), varints(0), 10, short)


# --- residual by leans ------------------------------------------------------------------

LEANING_SOURCE = np.linspace(-2, 2, 500, dtype="<f4").tobytes()
BFLOAT16 = KINDS[5]


def leaning_context(table: CodeTable, to: str | None = "bfloat16") -> DecodeContext:
    """With a prediction in slot 0, cast unless ``to`` is None, and the table in slot 8."""
    values = None
    if to is not None:
        kinds = NUMBER_KINDS["float32"], NUMBER_KINDS[to]
        values = ValueMap(operation=MapOperation.CAST, source=kinds[0], target=kinds[1])
    held = SourceRange(file=0, offset=0, length=len(LEANING_SOURCE))
    found = context(LEANING_SOURCE)
    found.set_table(0, Prediction(ranges=(held,), values=values))
    found.codes[8] = table
    return found


def leaning_record(position: int, phase: int) -> tuple[bytes, bytes, CodeTable]:
    """The tail of a record, what it makes, and its table: every third number one further on."""
    every = leaning_context(one_table(BFLOAT16, LEANING, (0, 1, 2), (4094, 1, 1)))
    start, size = position + phase, 600
    numbers, lean_bytes = every.predict_leaning(0, start, size, phase=0, width_bytes=2)
    before, leans = np.frombuffer(numbers, "<u2"), np.frombuffer(lean_bytes, np.uint8)
    after = before.copy()
    after[::3] += 1
    source, target = (b"<" * phase + one.tobytes() + b">" for one in (before, after))
    tail = Residual().encode(
        source,
        target,
        phase=phase,
        slot=0,
        position=position,
        code_slot=8,
        table=every.codes[8],
        levels=None,
        lanes_log2=0,
        leans=leans,
    )
    assert tail is not None
    return tail, target, every.codes[8]


@pytest.mark.parametrize(("position", "phase"), [(0, 0), (100, 0), (397, 1), (7, 1)])
def test_elements_come_back_by_how_their_prediction_leans(position: int, phase: int) -> None:
    """From any number on, with edges before and behind whole elements."""
    tail, target, table = leaning_record(position, phase)
    found = made(Residual(), tail, len(target), leaning_context(table))
    assert found == target


@pytest.mark.parametrize("to", [None, "float64"])
def test_codes_by_leans_want_a_prediction_that_leans(to: str | None) -> None:
    """Source bytes as they are have none, and those of other numbers are not for these."""
    tail, target, table = leaning_record(0, 0)
    with pytest.raises(DeltaError, match="code by leans"):
        made(Residual(), tail, len(target), leaning_context(table, to))


def test_codes_by_leans_are_for_whole_numbers() -> None:
    """Elements that begin within a number have no lean; nor do text, and planes."""
    tail, target, table = leaning_record(2, 0)
    head = varints(0, 2, 8, 0, 0)
    assert tail.startswith(head)
    with pytest.raises(DeltaError, match="code by leans"):
        shifted = varints(0, 3, 8, 0, 0) + tail[len(head) :]
        made(Residual(), shifted, len(target), leaning_context(table))
    with pytest.raises(DeltaError, match="more of a prediction"):
        late = varints(0, 402, 8, 0, 0) + tail[len(head) :]
        made(Residual(), late, len(target), leaning_context(table))
    as_text = leaning_context(table)
    held = SourceRange(file=0, offset=0, length=1000)
    as_text.set_table(0, Prediction(ranges=(held,), values=TextMap()))
    with pytest.raises(DeltaError, match="code by leans"):
        made(Residual(), tail, len(target), as_text)
    with pytest.raises(DeltaError, match="needs one"):
        made(Planes(), varints(8, 0, 0) + bytes(20), 10, leaning_context(table))


def test_a_symbol_that_the_table_lacks_is_not_coded() -> None:
    """None, from which a policy goes on to another table; with and without a prediction."""
    given = {"phase": 0, "code_slot": 8, "levels": None, "lanes_log2": 0}
    still = one_table(KINDS[0], DIFFERENCE, (0,), (4096,))
    slot = {"slot": 0, "position": 0}
    assert Residual().encode(b"ab", b"ac", table=still, **slot, **given) is None
    assert Residual().encode(b"ab", b"ab", table=still, **slot, **given) is not None
    assert Planes().encode(b"\0\1", table=still, **given) is None
    assert Planes().encode(b"\0\0", table=still, **given) is not None
