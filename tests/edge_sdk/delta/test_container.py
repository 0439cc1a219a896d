"""Prefix, header and index: one valid encoding, everything else refused."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import CHUNK_BYTES, DeltaError, Digest
from edge_sdk.delta import FileRef
from edge_sdk.delta.container import (
    FILES_MAX,
    PREFIX_BYTES_MAX,
    ByteSpan,
    ChunkRun,
    Index,
    TableEntry,
    parse_prefix,
    prefix_length,
    put_header,
    put_index,
    put_prefix,
)
from edge_sdk.delta.varint import varints

ZERO = Digest(bytes(32))


def ref(path: str, size_bytes: int = 0) -> FileRef:
    return FileRef(path=path, size_bytes=size_bytes, digest=ZERO)


def raw_ref(path: bytes, size_bytes: int = 0) -> bytes:
    return varints(len(path)) + path + varints(size_bytes) + ZERO.raw


def prefix(header: bytes, index: bytes | None = None) -> bytes:
    plain = put_index(records_bytes=20, end_offset=3, runs=[], tables=[])
    return put_prefix(header, plain if index is None else index)


def header(**changes: object) -> bytes:
    facts: dict = {
        "folder": True,
        "memory_bytes": 5,
        "methods": [1, 2],
        "sources": [ref("a"), ref("b")],
        "targets": [ref("c")],
    }
    return put_header(**{**facts, **changes})


def refused(header_body: bytes, problem: str) -> None:
    with pytest.raises(DeltaError, match=problem):
        parse_prefix(prefix(header_body))


def test_a_header_comes_back() -> None:
    """Every field is read as it was written."""
    index = put_index(
        records_bytes=900,
        end_offset=800,
        runs=[
            ChunkRun(first_chunk=0, chunks=2, offset=0),
            ChunkRun(first_chunk=2, chunks=1, offset=70),
            ChunkRun(first_chunk=3, chunks=1, offset=300),
        ],
        tables=[
            TableEntry(offset=20, slot=0, length=50),
            TableEntry(offset=200, slot=0, length=50),
            TableEntry(offset=260, slot=1, length=40),
        ],
    )
    targets = [ref("empty"), ref("f", CHUNK_BYTES + 1), ref("g", 2 * CHUNK_BYTES)]
    found = parse_prefix(prefix(header(targets=targets), index))
    assert found.sources == (ref("a"), ref("b"))
    assert found.targets == tuple(targets)
    assert (found.folder, found.memory_bytes, found.methods) == (True, 5, (1, 2))
    assert found.delta_bytes == found.prefix_bytes + 900
    assert found.target_bytes == 3 * CHUNK_BYTES + 1
    assert found.chunk_count == found.index.chunk_count == 4
    assert [found.chunk_start(chunk) for chunk in range(4)] == [
        (1, 0), (1, CHUNK_BYTES), (2, 0), (2, CHUNK_BYTES)
    ]  # fmt: skip
    assert [found.index.run_of(chunk).offset for chunk in range(4)] == [0, 0, 70, 300]
    in_force = found.index.tables_in_force(300)
    assert [(table.offset, table.slot) for table in in_force] == [(200, 0), (260, 1)]
    assert found.index.tables_in_force(20) == ()
    with pytest.raises(DeltaError, match="no chunk 4"):
        found.index.run_of(4)


def test_a_span_knows_its_end() -> None:
    """Offset and length count from the container's first byte."""
    assert ByteSpan(offset=5, length=3).end == 8


def test_an_index_reads_its_tables_without_its_runs() -> None:
    """Tables can be asked for first."""
    body = put_index(
        records_bytes=9,
        end_offset=8,
        runs=[ChunkRun(first_chunk=0, chunks=1, offset=5)],
        tables=[TableEntry(offset=0, slot=3, length=4)],
    )
    assert list(Index(body).tables()) == [TableEntry(offset=0, slot=3, length=4)]


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 1 << 20)), max_size=70),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 15), st.integers(1, 300)), max_size=70),
    st.integers(0, 9000),
)
def test_an_index_answers_from_any_place(
    run_steps: list[tuple[int, int]], table_steps: list[tuple[int, int, int]], place: int
) -> None:
    """Whatever is asked for, read in blocks as it is: what a list of all entries answers."""
    runs, chunk, offset = [], 0, 0
    for chunks, step in run_steps:
        runs.append(ChunkRun(first_chunk=chunk, chunks=chunks, offset=offset))
        chunk, offset = chunk + chunks, offset + step
    tables, at = [], 0
    for gap, slot, length in table_steps:
        tables.append(TableEntry(offset=at + gap, slot=slot, length=length))
        at += gap + length
    end = max(offset, at, 1)
    index = Index(put_index(records_bytes=end + 1, end_offset=end, runs=runs, tables=tables))
    index.check(chunk)
    assert list(index.runs()) == runs
    assert list(index.runs(place)) == [run for run in runs if run.first_chunk + run.chunks > place]
    assert list(index.tables()) == tables
    assert list(index.tables(place)) == [table for table in tables if table.offset > place]
    assert index.table_count == len(tables)
    latest = {table.slot: table for table in tables if table.offset < place}
    assert set(index.tables_in_force(place)) == set(latest.values())


LARGEST = 2**63 - 1


@pytest.mark.parametrize("before", [0, 100])
@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ((0, 5), "empty run"),
        ((1, 0), "goes on"),
        ((1, LARGEST), "past the records"),
        ((LARGEST, 5), "more chunks than any"),
        (((1 << 44) + 1, 5), "more chunks than any"),
    ],
)
def test_a_run_that_cannot_be_is_refused(before: int, entry: tuple[int, int], problem: str) -> None:
    """In the first block of the index or a later one, with numbers whose sums would wrap."""
    runs = varints(1, 3) + varints(1, 5) * before + varints(*entry) * 3
    index = Index(varints(LARGEST, LARGEST - 1, before + 4) + runs + varints(0))
    with pytest.raises(DeltaError, match=problem):
        index.check(before + 4)


@pytest.mark.parametrize("before", [0, 100])
@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ((0, 0, 1), "two tables at one place"),
        ((1, 0, 1), "a table that cannot be"),
        ((9, 16, 1), "a table that cannot be"),
        ((9, 0, 0), "a table that cannot be"),
        ((9, 0, LARGEST), "past the records"),
        ((LARGEST, 0, 9), "past the records"),
    ],
)
def test_a_table_that_cannot_be_is_refused(
    before: int, entry: tuple[int, int, int], problem: str
) -> None:
    """As for runs, and where one begins before the end of that of another block."""
    tables = varints(3, 0, 5) + varints(5, 1, 5) * before + varints(*entry)
    index = Index(varints(LARGEST, LARGEST - 1, 0, before + 2) + tables)
    with pytest.raises(DeltaError, match=problem):
        index.check(0)


def hostile(what: str) -> bytes:
    """A prefix of almost 16 MiB, of as many entries as that can hold."""
    room = PREFIX_BYTES_MAX - 300
    if what == "files":
        paths = [
            f"{number:04x}/"
            + "/".join(["\N{GREEK SMALL LETTER IOTA WITH DIALYTIKA AND TONOS}" * 66] * 7)
            for number in range(FILES_MAX)
        ]
        files = [ref(path, 1) for path in paths]
        runs = [ChunkRun(first_chunk=n, chunks=1, offset=n) for n in range(FILES_MAX)]
        index = put_index(records_bytes=9999, end_offset=9998, runs=runs, tables=[])
        return put_prefix(header(sources=files, targets=files), index)
    runs_count, tables_count = (room // 2, 0) if what == "runs" else (1, room // 3)
    runs = varints(1, 1) * (runs_count - 1) + varints((1 << 30) - runs_count + 1, 1)
    tables = varints(2, 3, 1) * tables_count
    index = varints(1 << 40, 1 << 39, runs_count) + runs + varints(tables_count) + tables
    return put_prefix(header(targets=[ref("c", 1 << 50)]), index)


@pytest.mark.parametrize("what", ["runs", "tables", "files"])
def test_no_prefix_keeps_a_decoder_busy(what: str) -> None:
    """The longest ones are read, and asked from their end, in a time that a bound far off says."""
    data = hostile(what)
    begun_s = time.process_time()
    found = parse_prefix(data)
    last = found.chunk_count - 1
    assert found.index.run_of(last).first_chunk <= last
    assert len(found.index.tables_in_force(1 << 39)) == (what == "tables")
    assert found.chunk_start(last)[1] % CHUNK_BYTES == 0
    # A second here; one number at a time took more than 20.
    assert time.process_time() - begun_s < 12


def test_tables_do_not_overlap() -> None:
    """Each table begins behind the one before it, or at its end."""
    for step, good in ((4, True), (5, True), (3, False)):
        tables = [
            TableEntry(offset=0, slot=3, length=4),
            TableEntry(offset=step, slot=3, length=4),
        ]
        index = Index(put_index(records_bytes=20, end_offset=9, runs=[], tables=tables))
        if good:
            index.check(0)
            continue
        with pytest.raises(DeltaError, match="a table that cannot be"):
            index.check(0)


def test_records_are_not_much_longer_than_what_they_make() -> None:
    """A delta cannot make its device work on more than twice the target, and a little."""
    most = 65536 + 2 * 64 + 2 * 300
    targets = [ref("a", 300), ref("b")]
    runs = [ChunkRun(first_chunk=0, chunks=1, offset=0)]
    for records_bytes in (most, most + 1):
        index = put_index(records_bytes=records_bytes, end_offset=99, runs=runs, tables=[])
        sealed = prefix(header(targets=targets), index)
        if records_bytes == most:
            assert parse_prefix(sealed).index.records_bytes == most
            continue
        with pytest.raises(DeltaError, match="longer than those of its target"):
            parse_prefix(sealed)


@pytest.mark.parametrize("bit", range(3, 62, 7))
def test_unknown_flags_are_refused(bit: int) -> None:
    """Every flag but the known ones is critical."""
    refused(varints(1 << bit) + header()[1:], "flags")


@pytest.mark.parametrize(
    ("methods", "problem"),
    [
        (varints(2, 2, 1), "ascending"),
        (varints(2, 1, 1), "ascending"),
        (varints(65) + bytes(range(65)), "too many"),
    ],
)
def test_methods_have_one_order(methods: bytes, problem: str) -> None:
    """Each method once, the lowest first, not too many."""
    tail = varints(0, 1) + raw_ref(b"t")
    refused(varints(0, 5) + methods + tail, problem)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (varints(0), "0 target files"),
        (varints(FILES_MAX + 1), "target files"),
        (varints(2) + raw_ref(b"b") + raw_ref(b"a"), "order"),
        (varints(2) + raw_ref(b"a") + raw_ref(b"a"), "fall together"),
        (varints(2) + raw_ref(b"A") + raw_ref(b"a"), "fall together"),
        (varints(2) + raw_ref(b"a") + raw_ref(b"a/b"), "both a file and a folder"),
        (varints(1) + raw_ref(b"../a"), "impossible"),
        (varints(1) + raw_ref(b"/a"), "impossible"),
        (varints(1) + raw_ref(b"c:a"), "impossible"),
        (varints(1) + raw_ref(b"a\\b"), "impossible"),
        (varints(1) + raw_ref(b"a\x00"), "impossible"),
        (varints(1) + raw_ref(b""), "impossible"),
        (varints(1) + raw_ref("e\u0301".encode()), "impossible"),
        (varints(1) + raw_ref(b"\xff"), "UTF-8"),
        (varints(2) + raw_ref(b"a", 2**62) + raw_ref(b"b", 2**62), "impossible size"),
        (varints(1) + raw_ref(b"a")[:-1], "too early"),
        (varints(1) + raw_ref(b"a") + b"x", "too many"),
        (varints(1, 2**62), "too early"),
    ],
)
def test_impossible_files_are_refused(files: bytes, problem: str) -> None:
    """Paths that leave the folder or fall together, wrong order, sizes that overflow."""
    refused(varints(1, 5, 0, 0) + files, problem)


def test_source_paths_are_checked_like_target_paths() -> None:
    """A hostile path among the sources is refused too."""
    refused(
        varints(1, 5, 0, 1, 1) + raw_ref(b"../a") + varints(1) + raw_ref(b"a"), "impossible source"
    )


def test_several_artifacts_are_not_supported_yet() -> None:
    """The format has room for more than one source artifact; this release refuses it."""
    files = varints(1) + raw_ref(b"a")
    refused(varints(1, 5, 0, 2) + files * 3, "not supported")


def test_a_single_file_is_one_file() -> None:
    """Without the folder flag there is exactly one target file."""
    refused(header(folder=False, targets=[ref("a"), ref("b")]), "no folder")


def test_a_damaged_prefix_is_found_by_its_check() -> None:
    """A flipped bit behind the preamble differs from the check."""
    data = bytearray(prefix(header()))
    data[25] ^= 4
    with pytest.raises(DeltaError, match="damaged"):
        parse_prefix(bytes(data))


def test_lengths_are_bounded() -> None:
    """Neither reading nor writing goes beyond the longest prefix."""
    preamble = prefix(header())[:10] + (PREFIX_BYTES_MAX).to_bytes(4, "little") + bytes(4)
    with pytest.raises(DeltaError, match="too many"):
        prefix_length(preamble)
    with pytest.raises(DeltaError, match="longer than"):
        put_prefix(b"", bytes(PREFIX_BYTES_MAX))


@given(st.binary(max_size=60), st.binary(max_size=40))
def test_any_sealed_prefix_is_read_or_refused(header_body: bytes, index_body: bytes) -> None:
    """Random bytes behind a right check never raise anything but DeltaError."""
    try:
        found = parse_prefix(put_prefix(header_body, index_body))
    except DeltaError:
        return
    assert found.targets
