"""Prefix, header and index: one valid encoding, everything else refused."""

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
