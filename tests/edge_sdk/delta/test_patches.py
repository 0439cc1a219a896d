"""Copies and new bytes become as few records as possible."""

import io
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge_sdk.base import CHUNK_BYTES, UnavailableError
from edge_sdk.delta.container import PREFIX_BYTES_MAX
from edge_sdk.delta.files import open_tree
from edge_sdk.delta.patches import Patches
from edge_sdk.delta.writer import ContainerWriter
from tests.support.deltas import decoded, file_ref, place, record_spans, write_folder

NOISE = random.Random(11).randbytes(3 * CHUNK_BYTES)
TEXT = "".join(f"line {n * n}\n" for n in range(4000)).encode()
ALL = {1, 2, 3}
COPY, LITERAL, PATCH = 1, 2, 3


class Made:
    """A delta made of nothing but what ``patches`` takes."""

    def __init__(self, sources: Sequence[bytes], targets: Sequence[bytes]) -> None:
        self.sources = sources
        self.targets = targets
        refs = [
            [file_ref(f"{n:02}", data) for n, data in enumerate(one)] for one in (sources, targets)
        ]
        self.writer = ContainerWriter(io.BytesIO(), *refs)

    def kinds(self) -> list[int]:
        """Of the records that make the targets, decoded and compared."""
        out = io.BytesIO()
        self.writer.finish(out, folder=True, memory_limit_bytes=PREFIX_BYTES_MAX)
        self.delta = out.getvalue()
        assert decoded(self.delta, self.sources) == self.targets
        return [kind for kind, _, _ in record_spans(self.delta)][:-1]


@contextmanager
def patches(root: Path, made: Made, methods: set[int] | None = None) -> Iterator[Patches]:
    """Flushed at the end of the block."""
    with ExitStack() as stack:
        opened = []
        for name, files in (("s", made.sources), ("t", made.targets)):
            write_folder(root / name, {f"{n:02}": data for n, data in enumerate(files)})
            opened.append(stack.enter_context(open_tree(root / name)) if files else ())
        found = Patches(made.writer, methods or ALL, *opened)
        yield found
        found.flush()


def test_touching_copies_are_one_record(tmp_path: Path) -> None:
    """Copies that go on in source and target are joined across chunks and files."""
    made = Made([NOISE[:-9], NOISE[-9:]], [NOISE[: 2 * CHUNK_BYTES], NOISE[2 * CHUNK_BYTES :]])
    with patches(tmp_path, made) as taking:
        for at in range(0, 4 * (CHUNK_BYTES // 2), CHUNK_BYTES // 2):
            taking.copy(place(CHUNK_BYTES // 2, at), 0, at)
        taking.copy(place(CHUNK_BYTES - 9, 0, 1), 0, 2 * CHUNK_BYTES)
        taking.copy(place(9, CHUNK_BYTES - 9, 1), 1, 0)
    assert made.kinds() == [COPY]


def test_copies_and_new_bytes_are_one_patch(tmp_path: Path) -> None:
    """From anywhere, over chunks and files, with bytes between them that are new."""
    first = NOISE[CHUNK_BYTES:] + b"new bytes" + NOISE[:500_000]
    second = b"more of them" + NOISE[7:5000]
    made = Made([NOISE], [first, second])
    with patches(tmp_path, made) as taking:
        at = 2 * CHUNK_BYTES
        taking.copy(place(at), 0, CHUNK_BYTES)
        taking.literal(place(9, at), b"new bytes", (0, at))
        taking.copy(place(500_000, at + 9), 0, 0)
        taking.literal(place(12, 0, 1), b"more of them", None)
        taking.copy(place(4993, 12, 1), 0, 7)
    assert made.kinds() == [PATCH]
    assert len(made.delta) < 400


def test_new_bytes_alone_are_a_literal(tmp_path: Path) -> None:
    """Where nothing of the source is like them."""
    made = Made([], [TEXT])
    with patches(tmp_path, made) as taking:
        taking.literal(place(len(TEXT)), TEXT, None)
    assert made.kinds() == [LITERAL]


def test_new_bytes_of_several_files_are_packed_together(tmp_path: Path) -> None:
    """Small files that are alike cost little more than one of them."""
    targets = [TEXT[:2000] + b"%d" % number for number in range(50)]
    made = Made([], targets)
    with patches(tmp_path, made) as taking:
        for number, data in enumerate(targets):
            taking.literal(place(len(data), 0, number), data, None)
    assert made.kinds() == [PATCH]
    packed = sum(end - start for _, start, end in record_spans(made.delta))
    assert packed < 2000


def test_new_bytes_are_packed_with_what_they_are_near_to(tmp_path: Path) -> None:
    """An edited text in another file is found in the windows."""
    edited = TEXT.replace(b"line 1000000\n", b"").replace(b"line 4\n", b"line four\n")
    made = Made([NOISE[:500], TEXT], [edited])
    with patches(tmp_path, made) as taking:
        taking.literal(place(len(edited)), edited, (1, 0))
    assert made.kinds() == [PATCH]
    assert len(made.delta) < 450


def test_a_record_beside_its_source_is_written_where_it_is_smaller(tmp_path: Path) -> None:
    """What came before keeps its place; where it is not smaller, or no patch may be, nothing
    is written. Also where the source ends before."""
    holed = bytearray(NOISE[: 1 << 16])
    for at in range(0, 1 << 16, 64):
        holed[at : at + 32] = bytes(32)
    length = len(holed)
    for start in (0, len(NOISE) - 5000):
        made = Made([NOISE], [b"before" + bytes(holed)])
        with patches(tmp_path, made, {1, 2}) as taking:
            assert not taking.beside(place(length, 6), bytes(holed), (0, start), 1 << 20)
        with patches(tmp_path, made) as taking:
            taking.literal(place(6), b"before", None)
            assert not taking.beside(place(length, 6), bytes(holed), (0, start), 20)
            assert taking.beside(place(length, 6), bytes(holed), (0, start), 1 << 20)
        assert made.kinds() == [LITERAL, PATCH]


def test_more_new_bytes_than_a_patch_holds_are_several(tmp_path: Path) -> None:
    """However long the target is, a record holds a chunk's worth of new bytes."""
    made = Made([], [NOISE])
    with patches(tmp_path, made) as taking:
        for at in range(0, len(NOISE), 300_000):
            data = NOISE[at : at + 300_000]
            taking.literal(place(len(data), at), data, None)
    kinds = made.kinds()
    assert 3 <= len(kinds) <= 5


def test_without_patches_each_is_a_record(tmp_path: Path) -> None:
    """A device that lacks the method gets copies and literals."""
    made = Made([NOISE], [NOISE[:5000] + b"new" + NOISE[:100]])
    with patches(tmp_path, made, {COPY, LITERAL}) as taking:
        taking.copy(place(5000), 0, 0)
        taking.literal(place(3, 5000), b"new", (0, 5000))
        taking.copy(place(100, 5003), 0, 0)
    assert made.kinds() == [COPY, LITERAL, COPY]


def test_a_source_that_shrinks_meanwhile_is_told(tmp_path: Path) -> None:
    """What was to be looked at is gone: no delta is made from what is left."""
    made = Made([TEXT], [TEXT[:-5]])
    with patches(tmp_path, made) as taking:
        (tmp_path / "s" / "00").write_bytes(b"short")
        taking.literal(place(len(TEXT) - 5), TEXT[:-5], (0, 0))
        with pytest.raises(UnavailableError, match="'00' changed"):
            taking.flush()


def test_small_files_are_left_to_the_compressor_where_it_knows_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many short copies, each an operation, are shorter as new bytes like the whole source."""
    random_ = random.Random(12)
    starts = [random_.randrange(len(TEXT) - 99) for _ in range(400)]
    parts = [TEXT[at : at + random_.randrange(20, 30)] for at in starts]
    sizes = []
    for limit_bytes in (0, len(TEXT)):
        monkeypatch.setattr("edge_sdk.delta.patches._WHOLE_SOURCE_BYTES_MAX", limit_bytes)
        made = Made([TEXT], [b"".join(parts)])
        with patches(tmp_path / str(limit_bytes), made) as taking:
            at = 0
            for start, part in zip(starts, parts, strict=True):
                taking.copy(place(len(part), at), 0, start)
                at += len(part)
        assert made.kinds() == [PATCH]
        sizes.append(len(made.delta))
    assert sizes[1] < sizes[0]
