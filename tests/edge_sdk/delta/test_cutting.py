"""Cutting a chunk: copies, tensors, and the rest, without gaps."""

import random
from pathlib import Path

import pytest

from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.cutting import Cutter, Piece
from edge_sdk.delta.files import open_tree
from edge_sdk.delta.numeric import ElementKind, kind_of
from tests.support.deltas import write_folder

NOISE = random.Random(3).randbytes(40_000)
FLOAT = kind_of("float32")


def aligned(
    start: int, end: int, source_start: int, kind: ElementKind | None = FLOAT
) -> AlignedRange:
    return AlignedRange(start=start, end=end, source_file=0, source_start=source_start, kind=kind)


def cut(
    root: Path, source: bytes, target: bytes, *ranges: AlignedRange, copies: bool = True
) -> list[Piece]:
    """The pieces of a target of one chunk, which follow each other from start to end."""
    write_folder(root, {"source/f": source, "target/f": target})
    with open_tree(root / "source") as sources, open_tree(root / "target") as (file,):
        cutter = Cutter(sources, {0: ranges}, copies=copies)
        cutter.begin(file)
        pieces = cutter.pieces(0, 0, target)
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces)][:-1]
    assert pieces[-1].end == len(target)
    return pieces


def flipped(data: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in data)


def test_a_tensor_without_change_is_a_copy(tmp_path: Path) -> None:
    """And one that changed is predicted by its counterpart."""
    target = NOISE[:2000] + flipped(NOISE[2000:6000])
    first, second = cut(tmp_path, NOISE, target, aligned(0, 2000, 0), aligned(2000, 6000, 2000))
    assert first.copy_from == (0, 0)
    assert second.copy_from is None
    assert second.aligned == aligned(2000, 6000, 2000)


def test_neighbouring_tensors_are_one_piece(tmp_path: Path) -> None:
    """Small tensors that run on alike are joined, an unchanged one between them included."""
    target = flipped(NOISE[:400]) + NOISE[400:500] + flipped(NOISE[500:900])
    ranges = [aligned(0, 400, 0), aligned(400, 500, 400), aligned(500, 900, 500)]
    (piece,) = cut(tmp_path, NOISE, target, *ranges)
    assert piece.aligned == aligned(0, 900, 0)


@pytest.mark.parametrize(
    "second",
    [
        aligned(800, 1600, 804),
        aligned(800, 1600, 800, kind_of("float16")),
        aligned(801, 1600, 801),
    ],
    ids=["elsewhere", "another kind", "another phase"],
)
def test_tensors_that_do_not_run_on_stay_apart(tmp_path: Path, second: AlignedRange) -> None:
    """Another place in the source, another kind or a cut element keep two pieces."""
    target = flipped(NOISE[:1600])
    ranges = [aligned(0, second.start, 0), second]
    assert len(cut(tmp_path, NOISE, target, *ranges)) == 2


def test_small_pieces_are_bytes_like_others(tmp_path: Path) -> None:
    """Changed numbers that are few are bytes like others, and so is a copy of a few bytes."""
    target = flipped(NOISE[:60]) + NOISE[60:72] + flipped(NOISE[72:200])
    pieces = cut(tmp_path, NOISE, target, aligned(0, 60, 0), aligned(60, 72, 60))
    assert all(piece.copy_from is None and piece.aligned is None for piece in pieces)
    assert [piece.near for piece in pieces] == [(0, 0), (0, 72)]


def test_a_tensor_with_few_changes_is_copied_around_them(tmp_path: Path) -> None:
    """Two bytes of 8,000 differ: copies, and so little new that no code of numbers is smaller."""
    target = bytearray(NOISE[:8000])
    target[1000] ^= 1
    target[5000] ^= 1
    pieces = cut(tmp_path, NOISE, bytes(target), aligned(0, 8000, 0))
    assert [piece.copy_from for piece in pieces] == [(0, 0), None, (0, 1001), None, (0, 5001)]


def test_small_copies_that_follow_each_other_stay_a_copy(tmp_path: Path) -> None:
    """Two copies of neighbouring bytes are one copy, not bytes to be coded."""
    (piece,) = cut(tmp_path, NOISE, NOISE[:300], aligned(0, 100, 0), aligned(100, 300, 100))
    assert piece.copy_from == (0, 0)


def test_strings_are_matched_like_any_bytes(tmp_path: Path) -> None:
    """A tensor of strings that was edited is no numbers, but its old parts are copies."""
    target = NOISE[:5000] + b"edited" + NOISE[5000:9000]
    pieces = cut(tmp_path, NOISE, target, aligned(0, len(target), 0, None))
    assert [piece.copy_from for piece in pieces] == [(0, 0), None, (0, 5000)]


def test_without_copies_nothing_is_looked_for(tmp_path: Path) -> None:
    """A device that cannot copy gets pieces to be coded."""
    (piece,) = cut(tmp_path, NOISE, NOISE, copies=False)
    assert piece.copy_from is None


def test_a_shift_before_the_source_is_no_place(tmp_path: Path) -> None:
    """After content moved towards the end, earlier bytes have nothing near them."""
    target = flipped(NOISE[:700]) + NOISE[30_000:32_000] + flipped(NOISE[:900])
    first, moved, last = cut(tmp_path, NOISE, target)
    assert moved.copy_from == (0, 30_000)
    assert first.near == (0, 0)
    assert last.near == (0, 32_000)
    back = flipped(NOISE[:20_000]) + NOISE[:2000] + flipped(NOISE[2000:2600])
    assert [piece.near for piece in cut(tmp_path, NOISE, back)][-1] == (0, 2000)


BYTES = kind_of("int8")


def changed_at(data: bytes, every: int, first: int = 0) -> bytes:
    """The data with one of so many bytes flipped."""
    found = bytearray(data)
    for at in range(first, len(found), every):
        found[at] ^= 1
    return bytes(found)


def test_sparse_bytes_and_what_stands_between_are_one_piece(tmp_path: Path) -> None:
    """Tensors of single bytes, the head and tail of other bytes and a few between them."""
    target = NOISE[:300] + changed_at(NOISE[300:9000], 40)
    target += NOISE[9000:9050] + flipped(NOISE[9050:9054]) + NOISE[9054:9100]
    target += changed_at(NOISE[9100:20_000], 40) + NOISE[20_000:20_200]
    ranges = [aligned(300, 9000, 300, BYTES), aligned(9100, 20_000, 9100, BYTES)]
    pieces = cut(tmp_path, NOISE, target, *ranges)
    (numbers,) = [piece for piece in pieces if piece.aligned is not None]
    assert (numbers.start, numbers.end) == (0, 20_200)
    assert numbers.aligned == aligned(0, 20_200, 0, BYTES)


@pytest.mark.parametrize(
    ("every", "shift", "between"),
    [((2, 2), 0, 0), ((200, 12), 0, 0), ((40, 40), 8, 0), ((40, 40), 0, 900)],
)
def test_bytes_are_apart_that_are_better_apart(
    tmp_path: Path, every: tuple[int, int], shift: int, between: int
) -> None:
    """Dense ones, ones that changed more than the others, moved ones, and those far away."""
    middle = 18_000 + between
    target = changed_at(NOISE[:18_000], every[0]) + flipped(NOISE[18_000:middle])
    target += changed_at(NOISE[middle + shift : 36_000 + shift], every[1])
    ranges = [aligned(0, 18_000, 0, BYTES), aligned(middle, 36_000, middle + shift, BYTES)]
    pieces = cut(tmp_path, NOISE, target, *ranges)
    assert [piece.aligned for piece in pieces if piece.aligned is not None] == ranges


def alone(start: int, end: int, kind: str = "int8") -> AlignedRange:
    """Numbers that nothing predicts."""
    return AlignedRange(
        start=start,
        end=end,
        source_file=0,
        source_start=0,
        kind=kind_of(kind),
        is_predicted=False,
    )


def test_bytes_between_tensors_that_nothing_predicts_are_joined_to_them(tmp_path: Path) -> None:
    """Small tensors of other kinds too, but not those at either end."""
    ranges = [alone(300, 3000), alone(3010, 3200, "int32"), alone(3300, 6000)]
    before, joined, behind = cut(tmp_path, b"", NOISE[:6200], *ranges)
    assert (joined.start, joined.end) == (300, 6000)
    assert joined.aligned == alone(300, 6000)
    assert before.aligned is None
    assert behind.aligned is None


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_many_bytes_between_keep_tensors_apart(kind: str, tmp_path: Path) -> None:
    """Nor are wider numbers joined, however few bytes are between."""
    gap = 3000 if kind == "int8" else 10
    ranges = [alone(0, 3000, kind), alone(3000 + gap, 6000 + gap, kind)]
    first, _, last = cut(tmp_path, b"", NOISE[: 6000 + gap], *ranges)
    assert [first.aligned, last.aligned] == ranges
