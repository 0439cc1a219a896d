"""One flipped bit anywhere in a delta, its checks made anew or not: never another file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from edge_sdk.base import DeltaError, Digest, ProofError, WrongSourceError
from edge_sdk.delta import Decoder, ExpectedFile, Header, Prover, apply, coder
from edge_sdk.delta.coder import twin
from edge_sdk.delta.coder.tables import LEANING, parse
from edge_sdk.delta.container import PREDICTION_SLOTS, parse_prefix
from edge_sdk.delta.methods import REGISTRY
from edge_sdk.delta.numeric import KINDS
from edge_sdk.delta.prediction import parse_prediction
from edge_sdk.delta.records import KIND_TABLE, open_record
from edge_sdk.delta.value_maps import Operation
from edge_sdk.delta.varint import Cursor
from tests.fuzz.examples import FuzzExample, examples
from tests.support.deltas import (
    MEMORY_LIMIT_BYTES,
    decoded,
    encoded,
    file_ref,
    prefix_of,
    record_spans,
    resealed,
    write_folder,
)
from tests.support.every_delta import DeltaCase, every_delta, three_files

CASES = tuple(every_delta())
BACKENDS: dict[str, ModuleType] = {coder.KERNEL: coder._chosen, "numpy": twin}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coder with the kernel, where there is one, and without."""
    monkeypatch.setattr(coder, "_chosen", BACKENDS[request.param])


def flipped(data: bytes, byte: int, bit: int) -> bytes:
    out = bytearray(data)
    out[byte] ^= 1 << bit
    return bytes(out)


def ends_well(delta: bytes, sources: list[bytes], targets: list[bytes]) -> bool:
    """Whether it is refused; if not, it must make the targets."""
    try:
        files = decoded(delta, sources)
    except (DeltaError, ProofError):
        return True
    assert files == targets
    return False


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_flip_is_refused_and_resealed_never_makes_a_wrong_file(
    case: DeltaCase, backend: None
) -> None:
    """Every byte of a delta of every method, kind, model and value map."""
    assert decoded(case.delta, [case.source]) == [case.target]
    refused = 0
    for byte in range(len(case.delta)):
        bit = (byte * 5 + byte // 8) % 8
        with pytest.raises(DeltaError):
            decoded(flipped(case.delta, byte, bit), [case.source])
        with suppress(DeltaError, IndexError):  # framing that is gone cannot be sealed
            damaged = resealed(flipped(case.delta, byte, 7 - bit))
            refused += ends_well(damaged, [case.source], [case.target])
    assert refused > len(case.delta) // 3


@pytest.mark.parametrize("number", range(len(examples())))
def test_flips_in_deltas_that_the_encoder_makes(number: int, backend: None) -> None:
    """Whole deltas of several files, methods and tables, one bit in every few bytes."""
    example = examples()[number]
    delta, sources, targets = made_from(example)
    for byte in range(number % 3, len(delta), 1 + len(delta) // 300):
        with pytest.raises(DeltaError):
            decoded(flipped(delta, byte, byte % 8), sources)
        with suppress(DeltaError, IndexError):
            ends_well(resealed(flipped(delta, byte, 7 - byte % 8)), sources, targets)


@pytest.mark.parametrize("chunk", [0, 1, 2, 3])
def test_flips_in_a_delta_that_is_resumed(chunk: int, backend: None) -> None:
    """Begun at any chunk, with a damaged prefix or damaged records: an error, or what is left."""
    delta, source, targets = three_files()
    assert resumed(delta, chunk, source, targets) == targets[chunk:]
    refused = 0
    for byte in range(len(delta)):
        with suppress(DeltaError, IndexError):
            damaged = resealed(flipped(delta, byte, byte % 8))
            try:
                made = resumed(damaged, chunk, source, targets)
            except (DeltaError, ProofError):
                refused += 1
                continue
            assert made == targets[chunk:]
    assert refused > len(delta) // 4


def resumed(delta: bytes, chunk: int, source: bytes, targets: list[bytes]) -> list[bytes]:
    """What is made from a chunk on, proved by what was known of the target before."""
    expected = [
        ExpectedFile(
            size_bytes=len(data), digest=file_ref("", data).digest, chunks=(Digest.of(data),)
        )
        for data in targets
    ]
    prover = Prover(expected, first_chunk=chunk)
    made = [bytearray() for _ in targets]

    def write(file: int, offset: int, data: memoryview) -> None:
        assert offset == len(made[file]) and offset + len(data) <= len(targets[file])
        made[file] += data
        prover.update(file, offset, data)

    decoder, spans = Decoder.resume(
        prefix_of(delta),
        chunk,
        read_source=lambda _file, at, length: source[at : at + length],
        write=write,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
        on_header=lambda header: _same_targets(header, targets),
    )
    for span in spans:
        decoder.feed(delta[span.offset : span.end])
    decoder.finish()
    prover.finish()
    return [bytes(data) for data in made[chunk:]]


def _same_targets(header: Header, targets: list[bytes]) -> None:
    """As the agent does, which knows the target's files from the manifest."""
    stated = [(one.size_bytes, one.digest) for one in header.targets]
    if stated != [(len(data), file_ref("", data).digest) for data in targets]:
        raise DeltaError("the delta makes other files than were asked for")


@pytest.mark.parametrize("replace", [False, True])
def test_flips_in_a_delta_that_is_applied(tmp_path: Path, replace: bool, backend: None) -> None:
    """Applied to files, a damaged delta leaves what was there, and nothing beside it."""
    delta, source, targets = three_files()
    (tmp_path / "source").write_bytes(source)
    if replace:
        write_folder(tmp_path / "target", {"a": b"before", "other/b": b""})
    before = contents(tmp_path)
    refused = 0
    for byte in range(1, len(delta), 3):
        damaged = flipped(delta, byte, byte % 8)
        if byte % 2:
            with suppress(DeltaError, IndexError):
                damaged = resealed(damaged)
        (tmp_path / "delta").write_bytes(damaged)
        try:
            apply(tmp_path / "source", tmp_path / "delta", tmp_path / "target", replace=replace)
        except (DeltaError, ProofError, WrongSourceError):
            refused += 1
            assert contents(tmp_path) == {**before, "delta": damaged}
            continue
        finally:
            (tmp_path / "delta").unlink()
        made = sorted(path for path in (tmp_path / "target").rglob("*") if path.is_file())
        assert [path.read_bytes() for path in made] == targets
        shutil.rmtree(tmp_path / "target")
        if replace:
            write_folder(tmp_path / "target", {"a": b"before", "other/b": b""})
    assert refused > len(delta) // 4


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def made_from(example: FuzzExample) -> tuple[bytes, list[bytes], list[bytes]]:
    source = example.folder / "source"
    delta = encoded(source if example.sources else None, example.folder / "target")
    return delta, list(example.sources.values()), list(example.targets.values())


def bodies(delta: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each record."""
    for kind, start, end in record_spans(delta):
        _, body = open_record(delta[start:end], 0)
        yield kind, bytes(body.rest())


def test_nothing_is_left_out() -> None:
    """The deltas that are flipped here hold every method, element kind, model and value map."""
    methods: set[int] = set()
    codes: set[tuple[str, int]] = set()
    maps: set[Operation] = set()
    repeats = False
    deltas = [case.delta for case in CASES] + [made_from(one)[0] for one in examples()]
    for delta in deltas:
        header = parse_prefix(prefix_of(delta))
        repeats |= header.repeats
        for kind, body in bodies(delta):
            methods |= {kind} & set(REGISTRY)
            if kind == KIND_TABLE:
                cursor = Cursor(body, "a table")
                if cursor.varint() >= PREDICTION_SLOTS:
                    table = parse(cursor)
                    codes.add((table.kind.name, table.model))
                else:
                    values = parse_prediction(cursor, header.sources).values
                    maps.add(values.operation if values else Operation.IDENTITY)
    assert methods == set(REGISTRY)
    leaning = {"int8", *(kind.name for kind in KINDS if kind.is_float)}
    assert codes == {
        (kind.name, model) for kind in KINDS for model in (range(4) if kind.is_float else (0, 2))
    } | {(name, LEANING) for name in leaning}
    assert maps == set(Operation)
    assert repeats
