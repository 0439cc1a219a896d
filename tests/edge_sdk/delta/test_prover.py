"""The prover: nothing passes that does not have its digest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import CHUNK_BYTES, Digest, ProofError, UsageError, chunk_count, file_digest
from edge_sdk.delta import ExpectedFile, Prover

FILES = [bytes(range(256)) * 9000, b"", b"short", b"", b"x" * CHUNK_BYTES]


def chunks_of(data: bytes) -> tuple[Digest, ...]:
    return tuple(Digest.of(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES))


def expected(data: bytes, *, chunks: bool = True) -> ExpectedFile:
    found = chunks_of(data)
    return ExpectedFile(
        size_bytes=len(data), digest=file_digest(found), chunks=found if chunks else None
    )


def feed(
    prover: Prover, files: list[bytes], piece_bytes: int, first: tuple[int, int] = (0, 0)
) -> None:
    for number, data in enumerate(files):
        start = first[1] if number == first[0] else 0
        for at in range(start if number >= first[0] else len(data), len(data), piece_bytes):
            prover.update(number, at, memoryview(data[at : at + piece_bytes]))


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("piece_bytes", [777, 100_000, 1 << 20, 1 << 23])
def test_the_right_bytes_pass(chunks: bool, piece_bytes: int) -> None:
    """In pieces of any size, with empty files between, with or without chunk digests."""
    prover = Prover([expected(data, chunks=chunks) for data in FILES])
    feed(prover, FILES, piece_bytes)
    prover.finish()


def test_each_proved_chunk_is_told_once() -> None:
    """``on_chunk`` hears every chunk's global number with its digest, in order."""
    told = []
    prover = Prover(
        [expected(data) for data in FILES],
        on_chunk=lambda chunk, digest: told.append((chunk, digest)),
    )
    feed(prover, FILES, 300_000)
    assert told == list(enumerate(digest for data in FILES for digest in chunks_of(data)))


@pytest.mark.parametrize("first_chunk", [0, 1, 2, 3, 4])
def test_it_begins_at_any_chunk(first_chunk: int) -> None:
    """What was proved before is not wanted again; what is left is proved to the end."""
    begins = [(0, 0), (0, CHUNK_BYTES), (0, 2 * CHUNK_BYTES), (2, 0), (4, 0)]
    told = []
    prover = Prover(
        [expected(data) for data in FILES],
        first_chunk=first_chunk,
        on_chunk=lambda chunk, _digest: told.append(chunk),
    )
    feed(prover, FILES, 1 << 19, begins[first_chunk])
    prover.finish()
    assert told == list(range(first_chunk, 5))


def test_behind_the_last_chunk_nothing_is_missing() -> None:
    """A resumed proof may find that all was proved before; there is no chunk after that."""
    total = sum(chunk_count(len(data)) for data in FILES)
    Prover([expected(data) for data in FILES], first_chunk=total).finish()
    with pytest.raises(UsageError, match="behind the last"):
        Prover([expected(data) for data in FILES], first_chunk=total + 1)


@given(st.integers(0, len(FILES[0]) - 1))
def test_one_wrong_byte_is_found_with_its_chunk(at: int) -> None:
    """A wrong byte ends the proof no later than with its chunk, and says which."""
    wrong = bytearray(FILES[0])
    wrong[at] ^= 0x10
    with pytest.raises(ProofError) as found:
        feed(Prover([expected(FILES[0])]), [bytes(wrong)], 1 << 18)
    assert found.value.facts["chunk"] == at // CHUNK_BYTES
    assert found.value.facts["file"] == 0


def test_without_chunk_digests_the_file_is_proved_at_its_end() -> None:
    """A wrong byte is found when the file is complete, before the next file counts."""
    prover = Prover([expected(FILES[2], chunks=False), expected(FILES[4], chunks=False)])
    with pytest.raises(ProofError, match="file 0"):
        feed(prover, [b"shorT", FILES[4]], 1 << 20)


def test_an_empty_file_is_proved_too() -> None:
    """A promised digest that no empty file has is refused at once."""
    with pytest.raises(ProofError, match="file 0"):
        Prover([ExpectedFile(size_bytes=0, digest=Digest(bytes(32)))])


def test_missing_bytes_are_found_at_the_finish() -> None:
    """An incomplete file, or one that never came, ends as ProofError."""
    prover = Prover([expected(data) for data in FILES])
    feed(prover, [FILES[0][:-1]], 1 << 20)
    with pytest.raises(ProofError, match="file 0 is not complete"):
        prover.finish()


def test_bytes_come_in_order_and_not_too_many() -> None:
    """Gaps, repeats, other files and bytes past the end are ProofErrors."""
    for file, offset in ((0, 1), (1, 0), (2, 0)):
        with pytest.raises(ProofError, match="out of order"):
            Prover([expected(FILES[0])]).update(file, offset, memoryview(b"abc"))
    with pytest.raises(ProofError, match="longer"):
        Prover([expected(b"short")]).update(0, 0, memoryview(b"short and more"))


def test_contradicting_or_missing_digests_are_wrong_use() -> None:
    """Chunk digests that are not those of the file, or are needed and absent, are refused."""
    right = expected(FILES[0])
    for wrong in (
        ExpectedFile(size_bytes=len(FILES[0]), digest=right.digest, chunks=right.chunks[:-1]),
        ExpectedFile(size_bytes=len(FILES[0]), digest=Digest(bytes(32)), chunks=right.chunks),
    ):
        with pytest.raises(UsageError, match="contradict"):
            Prover([wrong])
    with pytest.raises(UsageError, match="no digests"):
        Prover([expected(FILES[0], chunks=False)], first_chunk=1)
    with pytest.raises(UsageError, match="no digests"):
        Prover([expected(FILES[0], chunks=False)], on_chunk=lambda _chunk, _digest: None)
