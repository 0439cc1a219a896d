"""What records refer to: predictions in force, within what reading them may cost."""

import pytest

from edge_sdk.base import DeltaError, Digest, WrongSourceError
from edge_sdk.delta import FileRef
from edge_sdk.delta.methods import DecodeContext
from edge_sdk.delta.prediction import Prediction, SourceRange
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberList, Operation, ValueMap

FLOAT32 = NUMBER_KINDS["float32"]


class Source:
    """A file of zeros that notes what was read of it: offset and length."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.reads: list[tuple[int, int]] = []

    def context(self) -> DecodeContext:
        ref = FileRef(path="a", size_bytes=self.size_bytes, digest=Digest(bytes(32)))
        return DecodeContext((ref,), self.read)

    def read(self, _file: int, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return bytes(length)


def test_bytes_from_too_many_places_are_refused_before_they_are_read() -> None:
    """Single bytes far apart, of one range or of many: refused, and nothing is read."""
    source = Source(1 << 30)
    context = source.context()
    far = SourceRange(file=0, offset=0, length=1, dimensions=((50_000, 20_000),))
    context.set_table(0, Prediction(ranges=(far,)))
    context.set_table(7, Prediction(ranges=(far,) * 64))
    for slot, length in ((0, 100), (0, 50_000), (7, 64 * 50_000)):
        with pytest.raises(DeltaError, match="too many places"):
            context.predict(slot, 0, length)
    assert source.reads == []
    assert context.predict(0, 1000, 60) == bytes(60)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_chunk_of_a_large_transposed_tensor_takes_bounded_reading(width: int) -> None:
    """A gibibyte, transposed: a chunk of it costs a read for 16 bytes, or 16 KiB read."""
    rows, columns = (1 << 30) // (8192 * width), 8192
    stride = columns * width
    held = SourceRange(
        file=0, offset=0, length=width, dimensions=((columns, width), (rows, stride))
    )
    source = Source(1 << 30)
    context = source.context()
    context.set_table(0, Prediction(ranges=(held,)))
    assert len(context.predict(0, 5 << 20, 1 << 20)) == 1 << 20
    read_bytes = sum(length for _, length in source.reads)
    assert len(source.reads) + read_bytes // 16384 <= 2 * (1 << 20) // 16


def test_lists_are_read_once_however_many_records_use_them() -> None:
    """Factors that a source holds are read where the table is set, and only there."""
    factors = SourceRange(file=0, offset=100, length=4 * 5000)
    values = ValueMap(
        operation=Operation.DEQUANTISE,
        source=NUMBER_KINDS["int8"],
        target=FLOAT32,
        channels=5000,
        factors=NumberList(kind=FLOAT32, content=factors),
    )
    held = SourceRange(file=0, offset=0, length=100)
    source = Source(30_000)
    context = source.context()
    context.set_table(0, Prediction(ranges=(held,), values=values))
    assert source.reads == [(100, 20_000)]
    for position in range(400):
        assert context.predict(0, position, 1) == b"\0"
    assert source.reads[1:] == [(position // 4, 1) for position in range(400)]


def test_a_source_that_ends_too_early_is_a_wrong_source() -> None:
    """Fewer bytes than the header says are there: WrongSourceError, for lists as for records."""
    ref = FileRef(path="a", size_bytes=100, digest=Digest(bytes(32)))
    context = DecodeContext(
        (ref,), lambda _file, offset, length: bytes(max(0, 50 - offset))[:length]
    )
    whole = Prediction(ranges=(SourceRange(file=0, offset=0, length=100),))
    context.set_table(0, whole)
    assert context.predict(0, 0, 50) == bytes(50)
    with pytest.raises(WrongSourceError, match="'a' ends before byte 51"):
        context.predict(0, 50, 1)
    held = SourceRange(file=0, offset=48, length=4)
    values = ValueMap(
        operation=Operation.SCALE,
        source=FLOAT32,
        target=FLOAT32,
        factors=NumberList(kind=FLOAT32, content=held),
    )
    with pytest.raises(WrongSourceError, match="ends before byte 52"):
        context.set_table(1, Prediction(ranges=whole.ranges, values=values))


@pytest.mark.parametrize(("file", "offset", "length"), [(1, 0, 1), (0, 10, 1), (0, 0, 11)])
def test_bytes_that_no_file_has_are_never_asked_for(file: int, offset: int, length: int) -> None:
    """No such file, behind its end, across it: DeltaError, and nothing is read."""
    source = Source(10)
    with pytest.raises(DeltaError, match="no source has"):
        source.context().read_file(file, offset, length)
    assert source.reads == []


def test_what_is_not_in_force_is_refused() -> None:
    """A slot that no table record has set."""
    context = Source(10).context()
    with pytest.raises(DeltaError, match="table 3, which is not in force"):
        context.predict(3, 0, 1)
    with pytest.raises(DeltaError, match="code table 8, which is not in force"):
        context.code(8)
    context.set_table(3, Prediction(ranges=(SourceRange(file=0, offset=0, length=10),)))
    with pytest.raises(DeltaError, match="more of a prediction"):
        context.predict(3, 5, 6)
    assert context.predict(3, 5, 5) == bytes(5)


def test_a_target_that_ends_too_early_is_a_delta_error() -> None:
    """What was made must be there again when a record refers to it."""
    refs = [FileRef(path=path, size_bytes=100, digest=Digest(bytes(32))) for path in "st"]
    context = DecodeContext(
        refs[:1],
        lambda _file, _offset, length: bytes(length),
        refs[1:],
        lambda _file, offset, length: bytes(max(0, 20 - offset))[:length],
    )
    context.position = 50
    assert context.read(95, 25) == bytes(25)
    with pytest.raises(DeltaError, match="target file 0 ends before byte 21"):
        context.read(95, 26)
