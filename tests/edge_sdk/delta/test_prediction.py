"""Predictions: identity now, with room for the rest."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError, Digest
from edge_sdk.delta import FileRef
from edge_sdk.delta.prediction import (
    DIMENSIONS_MAX,
    MAP_PARAMETERS_BYTES_MAX,
    RANGES_MAX,
    Prediction,
    ReadAhead,
    SourceRange,
    parse_prediction,
    put_prediction,
)
from edge_sdk.delta.text_map import TextMap
from edge_sdk.delta.value_maps import NUMBER_KINDS, Operation, ValueMap
from edge_sdk.delta.varint import Cursor, varints

SOURCES = tuple(FileRef(path=p, size_bytes=100, digest=Digest(bytes(32))) for p in ("a", "b"))
CONTENT = (bytes(range(100)), bytes(range(100, 200)))
IDENTITY = varints(0, 0, 0, 0)


def read(file: int, offset: int, length: int) -> bytes:
    return CONTENT[file][offset : offset + length]


def parse(body: bytes) -> Prediction:
    return parse_prediction(Cursor(body, "a table"), SOURCES)


def test_ranges_of_several_files_stand_one_after_the_other() -> None:
    """Any part of a prediction over three ranges of two files is what they hold there."""
    ranges = tuple(
        SourceRange(file=file, offset=offset, length=length)
        for file, offset, length in ((1, 10, 5), (0, 0, 20), (1, 0, 3))
    )
    prediction = parse(put_prediction(Prediction(ranges=ranges)))
    assert prediction.ranges == ranges
    whole = CONTENT[1][10:15] + CONTENT[0][:20] + CONTENT[1][:3]
    for start in range(29):
        for end in range(start, 29):
            assert prediction.read(start, end - start, read) == whole[start:end]
    with pytest.raises(DeltaError, match="more of a prediction"):
        prediction.read(20, 9, read)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (varints(0) + IDENTITY, "0 source ranges"),
        (varints(RANGES_MAX + 1) + varints(0, 0, 1, 0) * 65 + IDENTITY, "source ranges"),
        (varints(1, 2, 0, 1, 0) + IDENTITY, "no source has"),
        (varints(1, 0, 99, 2, 0) + IDENTITY, "no source has"),
        (varints(1, 0, 2**62, 2**62, 0) + IDENTITY, "no source has"),
        (varints(1, 0, 0, 0, 0) + IDENTITY, "empty source range"),
        (varints(1, 0, 0, 1, DIMENSIONS_MAX + 1), "too many"),
        (varints(1, 0, 0, 1, 1, 0, 8) + IDENTITY, "empty source range"),
        (varints(1, 0, 0, 1, 1, 27, 8) + IDENTITY, "no source has"),
        (varints(1, 0, 3, 1, 1, 5, 1) + IDENTITY, "no source has"),
        (varints(1, 0, 0, 1, 2, 2**40, 0, 2**40, 0) + IDENTITY, "impossible number"),
        (varints(1, 0, 0, 1, 0, 1, 0, 0, 0), "layout map 1: not supported"),
        (varints(1, 0, 0, 1, 0, 0, 0, 9, 2, 7, 7), "value map 9: not supported"),
        (varints(1, 0, 0, 1, 0, 0, 1, 9, 0, 0), "too many"),
        (varints(1, 0, 0, 1, 0, 1, MAP_PARAMETERS_BYTES_MAX + 1), "too long parameters"),
        (varints(1, 0, 0, 1, 0, 0, 0, 6, 1, 0), "too many"),
        (varints(1, 0, 0, 1, 0) + IDENTITY + b"x", "too many"),
        (varints(1, 0, 0, 1, 0) + IDENTITY[:-1], "ends within"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused(body: bytes, problem: str) -> None:
    """Malformed predictions, and maps of later releases, are DeltaErrors that say which."""
    with pytest.raises(DeltaError, match=problem):
        parse(body)


def test_a_prediction_has_a_length_that_fits() -> None:
    """Ranges whose lengths sum to 2**63 or more are refused."""
    size = 2**62
    sources = (FileRef(path="a", size_bytes=size, digest=Digest(bytes(32))),)
    body = varints(2) + varints(0, 0, size, 0) * 2 + IDENTITY
    with pytest.raises(DeltaError, match="impossible number"):
        parse_prediction(Cursor(body, "a table"), sources)


def scattered(run: int, count: int, stride: int = 20_000) -> SourceRange:
    return SourceRange(file=0, offset=0, length=run, dimensions=((count, stride),))


def test_a_record_gathers_one_run_for_sixteen_bytes_and_some() -> None:
    """Runs of 16 bytes may lie anywhere; smaller ones where there are few, or near each other."""
    wide = Prediction(ranges=(scattered(16, 100_000),))
    assert wide.is_affordable(0, 1 << 20) and wide.is_affordable(7, 1 << 20)
    single = Prediction(ranges=(scattered(1, 100_000),))
    assert single.is_affordable(99, 68)
    assert not single.is_affordable(99, 69)
    near = Prediction(ranges=(scattered(1, 100_000, 110),))
    assert near.is_affordable(0, 68) and not near.is_affordable(0, 69)
    assert near.is_affordable(0, 16 * 608) and not near.is_affordable(0, 16 * 608 - 1)


def test_the_work_of_all_ranges_counts_together() -> None:
    """Sixty-four ranges are affordable as a whole, but not with scattered runs in each."""
    plain = Prediction(ranges=(SourceRange(file=0, offset=0, length=1),) * RANGES_MAX)
    assert plain.is_affordable(0, RANGES_MAX)
    two = Prediction(ranges=(scattered(1, 40), scattered(1, 40)))
    assert not two.is_affordable(0, 80)
    assert two.is_affordable(0, 67) and two.is_affordable(13, 67)


def test_work_is_of_the_numbers_that_are_mapped() -> None:
    """What counts are the source's numbers, whole ones, not the bytes that they become."""
    kinds = NUMBER_KINDS
    held = scattered(8, 100_000)
    values = ValueMap(operation=Operation.CAST, source=kinds["float64"], target=kinds["float16"])
    prediction = Prediction(ranges=(held,), values=values)
    most = 128  # reads, for 1024 bytes: 64 + 1024 / 16
    assert prediction.is_affordable(0, 2 * most) and prediction.is_affordable(1, 2 * most - 1)
    assert not prediction.is_affordable(0, 2 * most + 2)
    assert not prediction.is_affordable(1, 2 * most)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_prediction_or_refused(body: bytes) -> None:
    """Nothing but DeltaError is raised, and what is read is written the same."""
    try:
        prediction = parse(body)
    except DeltaError:
        return
    assert put_prediction(prediction) == body


def test_what_is_gathered_serves_the_records_that_follow() -> None:
    """A transposed tensor read piece by piece, from several threads too: a third of the reads."""
    rows, columns = 512, 4096
    source = np.arange(rows * columns, dtype="<u4").tobytes()
    held = SourceRange(file=0, offset=0, length=4, dimensions=((columns, 4), (rows, 4 * columns)))
    prediction = Prediction(ranges=(held,))
    reads: list[int] = []

    def read(_file: int, offset: int, length: int) -> bytes:
        reads.append(length)
        return source[offset : offset + length]

    whole = prediction.read(0, prediction.length, read)
    places = [(at, 1 << 18) for at in range(0, prediction.length, 1 << 18)]
    reads.clear()
    alone = [prediction.read(at, length, read) for at, length in places]
    read_alone = sum(reads)
    reads.clear()
    ahead = ReadAhead()
    assert [ahead.read(prediction, *one, read) for one in places] == alone
    assert sum(reads) < 0.4 * read_alone
    ahead = ReadAhead()
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(ahead.read, prediction, *one, read) for one in places]
        found = [bytes(job.result()) for job in jobs]
    assert b"".join(found) == b"".join(alone) == whole


def test_no_more_is_gathered_than_a_record_may_cost() -> None:
    """Behind what is cheap lie single bytes far apart: they are not read ahead, nor is much for
    a record that wants little."""
    near = SourceRange(file=0, offset=0, length=4, dimensions=((1 << 16, 4),))
    far = SourceRange(file=0, offset=0, length=1, dimensions=((1 << 17, 1 << 15),))
    prediction = Prediction(ranges=(near, far))
    reads: list[int] = []

    def read(_file: int, _offset: int, length: int) -> bytes:
        reads.append(length)
        return bytes(length)

    ahead = ReadAhead()
    assert ahead.read(prediction, 0, 1 << 18, read) == bytes(1 << 18)
    assert len(reads) < 10
    reads.clear()
    assert ahead.read(Prediction(ranges=(near,)), 16, 8, read) == bytes(8)
    assert sum(reads) <= 24


def test_a_text_is_bounded() -> None:
    """All of it is unpacked for each record, so there is not much of it."""
    sources = (FileRef(path="a", size_bytes=1 << 21, digest=Digest(bytes(32))),)
    for size, problem in ((1 << 20, None), ((1 << 20) + 1, "a text of")):
        body = varints(1, 0, 0, size, 0, 0, 0, 6, 0)
        cursor = Cursor(body, "a table")
        if problem is None:
            assert parse_prediction(cursor, sources).length == size
            continue
        with pytest.raises(DeltaError, match=problem):
            parse_prediction(cursor, sources)


def test_a_record_pays_for_all_of_a_text() -> None:
    """Whatever it takes of it."""
    many = Prediction(ranges=(scattered(1, 1000),), values=TextMap())
    assert not many.is_affordable(0, 1)
    assert Prediction(ranges=(scattered(1, 60),), values=TextMap()).is_affordable(50, 1)
