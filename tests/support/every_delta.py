"""Small deltas that between them hold every method, element kind, model of code and value map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edge_sdk.delta import coder
from edge_sdk.delta.coder.leaning import (
    as_written,
    standing_in,
    standing_source,
    standing_target,
)
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCES, LEANING, CodeTable, Table, pack
from edge_sdk.delta.frames import Effort, Packer
from edge_sdk.delta.low_rank import LowRank
from edge_sdk.delta.methods import Patch
from edge_sdk.delta.methods.patch import New, Window
from edge_sdk.delta.methods.patch import Operation as PatchOperation
from edge_sdk.delta.numeric import KINDS, ElementKind, kind_of
from edge_sdk.delta.prediction import Prediction, SourceRange, put_prediction
from edge_sdk.delta.text_map import TextMap
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberList, Operation, ValueMap
from edge_sdk.delta.varint import varints
from tests.support.code_tables import fitting, one_table
from tests.support.deltas import Crafted, file_ref, place, tuned, weights

COPY, LITERAL, PATCH, RESIDUAL, PLANES = 1, 2, 3, 4, 5
_CODE_SLOT = 9
_COUNT = 40
_LEVELED_COUNT = 600  # three groups, each with a level


@dataclass(frozen=True, kw_only=True)
class DeltaCase:
    """A delta by hand with what it is made from, and what it makes."""

    name: str
    delta: bytes
    source: bytes
    target: bytes


def every_delta() -> Iterator[DeltaCase]:
    """Every kind by every model, some with levels; every value map, and strides without one."""
    for kind in KINDS:
        for model in range(4) if kind.is_float else (0, ALONE):
            yield _coded(kind, model, 1)
            if kind.name in {"float16", "int8"}:
                yield _coded(kind, model, 3)
    for name, (prediction, source) in _predictions().items():
        yield _predicted(name, prediction, source)
        if prediction.number_bytes:
            yield _leaning(name, prediction, source)
    yield _stored()
    yield _patched(repeats=False)
    yield _patched(repeats=True)


def three_files() -> tuple[bytes, bytes, list[bytes]]:
    """A delta of three files, which share tables that the first one's records set; its source,
    and its targets."""
    before = weights("float16", _COUNT, 1)
    files = [tuned(before, seed, step=3) for seed in (2, 3, 4)]
    shape = one_table(KINDS[4], 0, (0,), (4096,))
    _, table = _stream(shape, np.tile(before, 3), np.concatenate(files), None)
    crafted = Crafted(
        targets=[file_ref(name, bits.tobytes()) for name, bits in zip("abc", files, strict=True)],
        sources=[file_ref("s", before.tobytes())],
        folder=True,
    )
    whole = Prediction(ranges=(SourceRange(file=0, offset=0, length=before.nbytes),))
    crafted.table(varints(3) + put_prediction(whole)).table(varints(_CODE_SLOT) + pack(table))
    for number, bits in enumerate(files):
        coded = coder.encode(table, before, bits, None, 1)
        assert coded is not None
        body = varints(3, 0, _CODE_SLOT, 0, 0) + coded
        crafted.data(RESIDUAL, place(bits.nbytes, file=number), body)
    return crafted.build(), before.tobytes(), [bits.tobytes() for bits in files]


def _coded(kind: ElementKind, model: int, levels: int) -> DeltaCase:
    count = _COUNT if levels == 1 else _LEVELED_COUNT
    before = weights(kind.name, count, 1)
    after = tuned(before, 2, step=3)
    after[5:25] = before[5:25]
    shape = one_table(kind, model, (0,), (4096,), shift=1 if model in DIFFERENCES else None)
    of_groups = None
    if levels > 1:
        every = Table(shift=0, symbols=(0, 1, 2), frequencies=(4031, 64, 1))
        cells, tables = (0, 1, 0), shape.tables * 2
        shape = replace(shape, levels=3, cells=cells, tables=tables, level_tables=(every,) * 3)
        of_groups = np.array([0, 1, 2], np.uint8)
    tail, table = _stream(shape, None if model == ALONE else before, after, of_groups)
    crafted = _begun(before.tobytes(), after.tobytes()).table(varints(_CODE_SLOT) + pack(table))
    if model == ALONE:
        crafted.data(PLANES, place(after.nbytes), varints(_CODE_SLOT, 0, 0) + tail)
    else:
        whole = Prediction(ranges=(SourceRange(file=0, offset=0, length=before.nbytes),))
        crafted.table(varints(3) + put_prediction(whole))
        crafted.data(RESIDUAL, place(after.nbytes), varints(3, 0, _CODE_SLOT, 0, 0) + tail)
    name = f"{kind.name}-{model}-{levels}"
    return DeltaCase(
        name=name, delta=crafted.build(), source=before.tobytes(), target=after.tobytes()
    )


def _predicted(name: str, prediction: Prediction, source: bytes) -> DeltaCase:
    """The prediction's bytes, some of them changed."""
    made = prediction.read(0, prediction.length, lambda _file, at, length: source[at : at + length])
    before = np.frombuffer(made, np.uint8)
    after = before.copy()
    after[::9] += 1
    tail, table = _stream(one_table(KINDS[0], 0, (0,), (4096,)), before, after, None)
    crafted = _begun(source, after.tobytes())
    crafted.table(varints(0) + put_prediction(prediction))
    crafted.table(varints(_CODE_SLOT) + pack(table))
    crafted.data(RESIDUAL, place(len(after)), varints(0, 0, _CODE_SLOT, 0, 0) + tail)
    return DeltaCase(name=name, delta=crafted.build(), source=source, target=after.tobytes())


def _leaning(name: str, prediction: Prediction, source: bytes) -> DeltaCase:
    """The prediction's numbers, some of them a little further on, by how they lean."""
    assert prediction.values is not None
    kind = kind_of(prediction.values.target.name)
    assert kind is not None
    numbers, lean_bytes = prediction.read_leaning(
        0, prediction.length, lambda _file, at, length: source[at : at + length]
    )
    before, leans = np.frombuffer(numbers, kind.bits), np.frombuffer(lean_bytes, np.uint8)
    after = before.copy()
    after[::5] += 1
    after[3::7] -= 2
    shape = replace(one_table(kind, LEANING, (0,), (4096,)), bounds=(9,), cells=(0, 0))
    known = standing_in(shape)
    stood_in = standing_source(kind, before, leans)
    fitted = fitting(known, stood_in, standing_target(kind, before, after, leans), None)
    assert fitted is not None
    table = as_written(fitted)
    coded = coder.encode(table, before, after, None, 1, leans=leans)
    assert coded is not None
    target = after.tobytes()
    crafted = _begun(source, target)
    crafted.table(varints(0) + put_prediction(prediction))
    crafted.table(varints(_CODE_SLOT) + pack(table))
    crafted.data(RESIDUAL, place(len(target)), varints(0, 0, _CODE_SLOT, 0, 0) + coded)
    return DeltaCase(name=f"{name}-leaning", delta=crafted.build(), source=source, target=target)


def _stored() -> DeltaCase:
    """A copy, and what is new beside it."""
    source, new = bytes(range(200)), b"new bytes, and again new bytes"
    target = source[50:150] + new
    crafted = _begun(source, target).data(COPY, place(100), varints(50))
    crafted.data(LITERAL, place(len(new), 100), Packer().pack(new, Effort.DENSE))
    return DeltaCase(name="stored", delta=crafted.build(), source=source, target=target)


def _patched(*, repeats: bool) -> DeltaCase:
    """New bytes, changed ones and copies, like two windows; and all that by the target so far."""
    source = b"".join(b"%d squared is %d; " % (i, i * i) for i in range(12))
    new, steps = b" squared makes ", bytes([0, 0, 1, 255, 0, 7])
    changed = bytes((x + y) % 256 for x, y in zip(source[5:11], steps, strict=True))
    first = new + changed + source[11:60] + b"end"
    known = source + first if repeats else source
    second = new + known[-50:-20] + b"!"
    windows = [Window(address=0, length=40), Window(address=len(known) - 60, length=55)]
    position = len(first)
    packer = Packer()
    bodies = (
        Patch().encode(
            New(
                operations=(
                    PatchOperation(literal=len(new), changed=6, copied=49, address=5),
                    PatchOperation(literal=3),
                ),
                literals=new + b"end",
                differences=steps,
            ),
            [Window(address=20, length=60)],
            source[20:80],
            position=0,
            packer=packer,
            effort=Effort.DENSE,
        ),
        Patch().encode(
            New(
                operations=(
                    PatchOperation(literal=len(new), copied=30, address=len(known) - 50),
                    PatchOperation(literal=1),
                ),
                literals=new + b"!",
                differences=b"",
            ),
            windows,
            b"".join(known[one.address : one.end] for one in windows),
            position=position,
            packer=packer,
            effort=Effort.QUICK,
        ),
    )
    target = first + second
    crafted = _begun(source, target)
    crafted.repeats = repeats
    crafted.data(PATCH, place(len(first)), bodies[0])
    crafted.data(PATCH, place(len(second), position), bodies[1])
    name = "patch-repeats" if repeats else "patch"
    return DeltaCase(name=name, delta=crafted.build(), source=source, target=target)


def _begun(source: bytes, target: bytes) -> Crafted:
    return Crafted(targets=[file_ref("t", target)], sources=[file_ref("s", source)], mapped=True)


def _stream(
    shape: CodeTable, before: np.ndarray | None, after: np.ndarray, levels: np.ndarray | None
) -> tuple[bytes, CodeTable]:
    table = fitting(shape, before, after, levels) or _wide(shape, before, after)
    coded = coder.encode(table, before, after, levels, 1)
    assert coded is not None
    return coded, table


def _wide(shape: CodeTable, before: np.ndarray | None, after: np.ndarray) -> CodeTable:
    """For upper bits of more values than statistics are kept of."""
    (one,) = shape.tables
    symbols = after >> np.uint64(one.shift)
    if before is not None:
        width = 8 * after.itemsize
        symbols ^= before >> np.uint64(width - 1) << np.uint64(width - 1 - one.shift)
    found = tuple(np.unique(symbols).tolist())
    frequencies = (4097 - len(found), *(1 for _ in found[1:]))
    return replace(shape, tables=(replace(one, symbols=found, frequencies=frequencies),))


def _predictions() -> dict[str, tuple[Prediction, bytes]]:
    kinds = NUMBER_KINDS
    numbers = np.linspace(-3, 3, 24)
    factors = np.array([0.5, -2, 3], "<f4").tobytes()
    here = NumberList(kind=kinds["float32"], content=factors)
    points = NumberList(kind=kinds["int8"], content=bytes([1, 128, 255]))

    def there(kind: str, at: int, *dimensions: tuple[int, int]) -> NumberList:
        width = kinds[kind].width_bytes
        length = width if dimensions else 3 * width
        held = SourceRange(file=0, offset=at, length=length, dimensions=dimensions)
        return NumberList(kind=kinds[kind], content=held)

    def whole(source: str, target: str, operation: Operation, **lists: NumberList) -> Prediction:
        length = 24 * kinds[source].width_bytes
        values = ValueMap(operation=operation, source=kinds[source], target=kinds[target])
        if lists:
            values = replace(values, inner=2, channels=3, **lists)
        return Prediction(ranges=(SourceRange(file=0, offset=0, length=length),), values=values)

    of_kind = {name: numbers.astype(f"<f{width}").tobytes() for name, width in _FLOATS.items()}
    integers = np.arange(-12, 12).astype("<i1").tobytes()
    turned = SourceRange(file=0, offset=60, length=2, dimensions=((3, 48), (6, -8)))
    plain = SourceRange(file=0, offset=5, length=9)
    doubles = of_kind["float64"]
    return {
        "strides": (Prediction(ranges=(turned, plain)), doubles),
        "cast": (whole("float32", "bfloat16", Operation.CAST), of_kind["float32"]),
        "cast-wider": (whole("float16", "float64", Operation.CAST), of_kind["float16"]),
        "scale-here": (
            whole("float32", "float16", Operation.SCALE, factors=here),
            of_kind["float32"],
        ),
        "scale-there": (
            whole("float64", "float64", Operation.SCALE, factors=there("float64", 8, (3, 24))),
            doubles,
        ),
        "quantise": (
            whole("float32", "uint8", Operation.QUANTISE, factors=here, zeros=points),
            of_kind["float32"],
        ),
        "quantise-there": (
            whole("float32", "int8", Operation.QUANTISE, factors=there("float32", 4)),
            of_kind["float32"],
        ),
        "dequantise": (
            whole(
                "int8",
                "float32",
                Operation.DEQUANTISE,
                factors=there("float32", 24, (3, 4)),
                zeros=there("int8", 3, (3, -1)),
            ),
            integers + factors,
        ),
        "low-rank": (
            Prediction(ranges=(SourceRange(file=0, offset=0, length=96),), values=_moved()),
            of_kind["float32"],
        ),
        "text": (
            Prediction(ranges=(SourceRange(file=0, offset=1, length=36), plain), values=TextMap()),
            bytes(range(100, 124)).decode("latin-1").encode() + doubles[:24],
        ),
    }


def _moved() -> LowRank:
    """Rows of float32 that a product of small factors moves."""
    return LowRank(
        source=NUMBER_KINDS["float32"],
        target=NUMBER_KINDS["bfloat16"],
        rows=4,
        columns=6,
        gain=np.float32(0.875),
        step=np.float32(0.01),
        shifts=(0, 3),
        left=bytes([1, 255, 7, 0, 0, 0, 2, 130]),
        right=bytes(range(250, 256)) + bytes(range(6)),
    )


_FLOATS = {"float16": 2, "float32": 4, "float64": 8}
