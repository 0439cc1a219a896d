"""FORMAT.md is enough for patches, copies and frames that our encoder never makes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import zstandard

from edge_sdk.delta.varint import varints
from tests.independent_decoder.agreement import damaged, taken
from tests.independent_decoder.decode import decode_from
from tests.independent_decoder.places import Places
from tests.independent_decoder.test_decode import agree_on, resumed
from tests.support.deltas import Crafted, file_ref, place

COPY, LITERAL, PATCH = 1, 2, 3

Spoil = Callable[[bytes], bytes]


def signed(number: int) -> bytes:
    return varints(2 * number if number >= 0 else -2 * number - 1)


def frame_of(data: bytes, history: bytes = b"") -> bytes:
    prefix = zstandard.ZstdCompressionDict(history, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(
        dict_data=prefix if history else None, write_content_size=True
    ).compress(data)


def same(data: bytes) -> bytes:
    return data


class Patched:
    """Records of random patches over files of any size, written after the text."""

    def __init__(self, seed: int, *, repeats: bool) -> None:
        self.chance = random.Random(seed)
        self.sources = [self._bytes(self.chance.choice([0, 50, 900])) for _ in range(3)]
        self.before = b"".join(self.sources)
        self.repeats = repeats
        self.target = b""
        self.records: list[tuple[int, int, bytes]] = []

    def _bytes(self, count: int) -> bytes:
        return bytes(self.chance.choices(b"abcdefg\xff", k=count))

    def _somewhere(self, most: int) -> tuple[int, int]:
        """An address that may be referred to, and a length."""
        readable = len(self.readable)
        length = self.chance.randint(0, min(most, readable))
        return self.chance.randint(0, readable - length), length

    @property
    def readable(self) -> bytes:
        return self.before + self.target if self.repeats else self.before

    def patch(self, spoil: Spoil = same, spoil_windows: Spoil = same) -> None:
        """One more record."""
        chance, origin = self.chance, len(self.target)
        windows, history, at = b"", b"", origin
        ranges = [self._somewhere(300) for _ in range(chance.choice([0, 1, 1, 5]))]
        ranges = [(address, length) for address, length in ranges if length]
        for address, length in ranges:
            windows += signed(address - at) + varints(length)
            history += self.readable[address : address + length]
            at = address + length
        made = literals = differences = operations = b""
        expected = origin
        for number in reversed(range(chance.choice([1, 2, 9]))):
            new = self._bytes(chance.choice([0, 1, 30]))
            address, length = self._somewhere(chance.choice([1, 3, 200]))
            changed = chance.choice([0, length, chance.randint(0, length)])
            if not length and (number or not new):
                continue
            literals += new
            operations += varints(len(new), changed, length - changed)
            made += new
            if length:
                operations += signed(address - expected - len(new))
                expected = address + length
                moves = self._bytes(changed)
                differences += moves
                old = self.readable[address:expected]
                made += bytes((a + b) % 256 for a, b in zip(old, moves, strict=False))
                made += old[changed:]
        if not made:
            return
        operations = spoil(operations)
        head = spoil_windows(
            varints(len(ranges))
            + windows
            + varints(len(operations), len(literals) + len(differences))
        )
        frame = frame_of(literals + differences + operations, history)
        self.records.append((PATCH, len(made), head + frame))
        self.target += made

    def container(self) -> bytes:
        """All of it, the target cut into files anywhere; some of them are empty."""
        total = len(self.target)
        cuts = sorted(self.chance.randint(0, total) for _ in range(self.chance.choice([0, 1, 6])))
        ends = [0, *cuts, total]
        files = [self.target[first:end] for first, end in itertools.pairwise(ends)]
        places = Places([len(file) for file in files])
        crafted = Crafted(
            targets=[file_ref(f"t{number}", file) for number, file in enumerate(files)],
            sources=[file_ref(f"s{number}", file) for number, file in enumerate(self.sources)],
            folder=True,
            repeats=self.repeats,
        )
        at = 0
        for method, length, tail in self.records:
            file, offset = places.place(at)
            crafted.data(method, place(length, offset, file), tail)
            at += length
        return crafted.build()


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_patches_agree(seed: int, repeats: bool) -> None:
    """Operations and windows that read the source and the target, in any order."""
    made = Patched(seed, repeats=repeats)
    for _ in range(made.chance.choice([1, 4])):
        made.patch()
    assert taken(made.container(), made.sources)


@pytest.mark.parametrize("repeats", [False, True])
def test_patches_over_chunks_agree(repeats: bool) -> None:
    """Records over several chunks and files, begun in their middle: the second reads the first."""
    source = random.Random(1).randbytes(3 << 19)
    size = len(source)
    # New bytes, all of the source and, 5 bytes behind its start, nearly all of it once more.
    operations = varints(3, 0, size) + signed(-3) + varints(0, 0, size - 5) + signed(5 - size)
    first = b"abc" + source + source[5:]
    one = varints(0, len(operations), 3) + frame_of(b"abc" + operations)
    # Then the target from its second byte on, or the source from there.
    at = size if repeats else 0
    copied = 2 << 20 if repeats else size - 1
    steps = signed(at + 1 - len(first))
    operations = varints(0, 2, copied - 2) + steps
    second = ((first if repeats else source)[1:])[:copied]
    second = bytes([second[0] + 7 & 255, second[1] + 9 & 255]) + second[2:]
    two = varints(1) + steps + varints(50, len(operations), 2)
    two += frame_of(b"\7\x09" + operations, (first if repeats else source)[1:51])
    target = first + second
    ends = [0, 0, 700001, 700001, 700002, len(first) + 9, len(target), len(target)]
    files = {f"{n}": target[low:high] for n, (low, high) in enumerate(itertools.pairwise(ends))}
    places = Places([len(file) for file in files.values()])
    crafted = Crafted(
        targets=[file_ref(path, data) for path, data in files.items()],
        sources=[file_ref("s", source)],
        folder=True,
        repeats=repeats,
    )
    for begin, made, tail in ((0, first, one), (len(first), second, two)):
        file, offset = places.place(begin)
        crafted.data(PATCH, place(len(made), offset, file), tail)
    delta = crafted.build()
    agree_on(delta, [source], files)
    for chunk in range(places.chunk_count):
        begin = places.chunk_start(chunk)
        assert decode_from(delta, [source], chunk, target[:begin]) == target[begin:]
        assert resumed(delta, [source], chunk, files).endswith(target[begin:])


@pytest.mark.parametrize("where", ["operations", "windows"])
@pytest.mark.parametrize("seed", range(150))
def test_damaged_patches_agree(seed: int, where: str) -> None:
    """One bit turned in the operations, or in what stands before the frame."""
    made = Patched(seed, repeats=seed % 2 == 0)
    made.patch()
    made.patch()

    def spoil(body: bytes) -> bytes:
        return damaged(body, made.chance.randrange(8 * len(body)))

    made.patch(*((spoil, same) if where == "operations" else (same, spoil)))
    made.patch()
    taken(made.container(), made.sources)


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize(("address", "length"), list(itertools.product(range(9), range(1, 7))))
def test_copies_read_what_was_made_before(repeats: bool, address: int, length: int) -> None:
    """Of five source bytes and three of the target: only those, over the border, never beyond."""
    before, first = b"abcde", b"xyz"
    target = first + (before + first)[address : address + length].ljust(length, b"?")
    delta = (
        Crafted(targets=[file_ref("t", target)], sources=[file_ref("s", before)], repeats=repeats)
        .data(LITERAL, place(3), frame_of(first))
        .data(COPY, place(length, 3), varints(address))
        .build()
    )
    assert taken(delta, [before]) == (address + length <= (8 if repeats else 5))


@pytest.mark.parametrize("count", [15, 16, 17, 18, 19])
@pytest.mark.parametrize("length", [19, 31, 32, 47, 48])
def test_operations_are_counted(count: int, length: int) -> None:
    """A record has 16 operations and one more for each 16 bytes that it makes."""
    source = bytes(length)
    operations = varints(0, 0, 1, 0) * (count - 1) + varints(0, 0, length - count + 1, 0)
    tail = varints(0, len(operations), 0) + frame_of(operations)
    delta = (
        Crafted(targets=[file_ref("t", source)], sources=[file_ref("s", source)])
        .data(PATCH, place(length), tail)
        .build()
    )
    assert taken(delta, [source]) == (count <= 16 + length // 16)


@pytest.mark.parametrize("windows", [0, 1, 64, 65])
@pytest.mark.parametrize("length", [1, 1 << 14, (1 << 14) + 1])
def test_windows_are_counted(windows: int, length: int) -> None:
    """At most 64 windows of 1 MiB together; the same bytes may be in several."""
    source = random.Random(1).randbytes(length)
    head = varints(windows)
    for number in range(windows):
        head += signed(-length if number else 0) + varints(length)
    operations = varints(4, 0, 0)
    tail = head + varints(len(operations), 4) + frame_of(b"abcd" + operations, source * windows)
    delta = (
        Crafted(targets=[file_ref("t", b"abcd")], sources=[file_ref("s", source)])
        .data(PATCH, place(4), tail)
        .build()
    )
    assert taken(delta, [source]) == (windows <= 64 and windows * length <= 1 << 20)


def raw_frame(data: bytes, descriptor: int, window: int, dictionary: int, size: int) -> bytes:
    """A frame of raw blocks (RFC 8878) whose header says what it is told to say."""
    single = descriptor & 32
    out = b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + (b"" if single else bytes([window]))
    out += (dictionary * (descriptor & 3 > 0)).to_bytes((0, 1, 2, 4)[descriptor & 3], "little")
    width = ((1 if single else 0), 2, 4, 8)[descriptor >> 6]
    said = size - 256 if width == 2 else size
    out += (said % (1 << (8 * width))).to_bytes(width, "little")
    return out + (len(data) << 3 | 1).to_bytes(3, "little") + data


@pytest.mark.parametrize("descriptor", range(256))
def test_headers_of_frames_agree(descriptor: int) -> None:
    """Every descriptor, with windows, dictionary ids and sizes that are refused or not."""
    data = bytes(300)
    # Windows: 1 KiB, 1.125 KiB, 2 MiB, 2.25 MiB, 4 MiB.
    for window, dictionary, size in itertools.product(
        (0, 1, 11 << 3, 11 << 3 | 1, 12 << 3), (0, 1), (300, 299)
    ):
        frame = raw_frame(data, descriptor, window, dictionary, size)
        crafted = Crafted(targets=[file_ref("t", data)]).data(LITERAL, place(300), frame)
        assert not taken(crafted.build()) or size == 300
