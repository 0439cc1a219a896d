"""zstd frames: one kind is allowed, and no claim of a frame is believed."""

import random

import numpy as np
import pytest
import zstandard

from edge_sdk.base import DeltaError
from edge_sdk.delta import frames
from edge_sdk.delta.frames import Effort, Packer, Unpacker

DATA = b"weights and labels " * 400
MIB = 1 << 20


@pytest.mark.parametrize("effort", list(Effort))
@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(MIB)], ids=len)
def test_packed_bytes_come_back(effort: Effort, data: bytes) -> None:
    """Every effort makes a frame that is allowed, up to a whole chunk."""
    assert Unpacker().unpack(Packer().pack(data, effort), len(data)) == data


def test_the_same_packer_makes_the_same_bytes() -> None:
    """A frame does not depend on what was packed before it."""
    packer = Packer()
    first = packer.pack(DATA, Effort.DENSE)
    packer.pack(bytes(MIB), Effort.DENSE)
    assert packer.pack(DATA, Effort.DENSE) == first == Packer().pack(DATA, Effort.DENSE)


@pytest.mark.parametrize("size", [10, 5000, MIB])
@pytest.mark.parametrize("effort", list(Effort))
def test_a_dictionary_helps_and_comes_back(size: int, effort: Effort) -> None:
    """With the source's window before it, alike content takes a few bytes."""
    dictionary = np.random.default_rng(1).bytes(size)
    packed = Packer().pack_parts([dictionary, b"!"], effort, dictionary)
    assert len(packed) < 200
    assert Unpacker().unpack(packed, size + 1, dictionary) == dictionary + b"!"


@pytest.mark.parametrize("effort", list(Effort))
@pytest.mark.parametrize("parts", [[b"x"], [DATA], [DATA, bytes(7)], [b"a", DATA, b"b" * MIB]])
def test_parts_are_one_frame(effort: Effort, parts: list[bytes]) -> None:
    """Whatever was packed before, they come back as one, and take no more than alone."""
    packer = Packer()
    packed = packer.pack_parts(parts, effort, b"")
    assert packer.pack_parts(parts, effort, b"") == packed
    assert Unpacker().unpack(packed, sum(map(len, parts))) == b"".join(parts)
    assert len(packed) <= sum(len(packer.pack(part, effort)) for part in parts)


def bomb(claimed: int, length: int) -> bytes:
    """A frame of zeros whose header claims another content size (4 bytes, not one segment)."""
    frame = bytearray(
        zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(window_log=18)
        ).compress(bytes(length))
    )
    at = frame.index(length.to_bytes(4, "little"))
    frame[at : at + 4] = claimed.to_bytes(4, "little")
    return bytes(frame)


@pytest.mark.parametrize(
    ("frame", "length", "problem"),
    [
        (b"", 0, "not a zstd frame"),
        (b"\x50\x2a\x4d\x18\x00\x00\x00\x00", 0, "not a zstd frame"),
        (b"\x28\xb5\x2f\xfd", 5, "cannot be read"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(DATA), len(DATA), "claim"),
        (zstandard.ZstdCompressor().compress(DATA), len(DATA) - 1, "claim"),
        (zstandard.ZstdCompressor().compress(DATA), len(DATA) + 1, "claim"),
        (zstandard.ZstdCompressor(write_checksum=True).compress(DATA), len(DATA), "flags"),
        (zstandard.ZstdCompressor(level=9).compress(bytes(64 * MIB)), 64 * MIB, "window"),
        (zstandard.ZstdCompressor().compress(DATA) + b"x", len(DATA), "unpacked"),
        (zstandard.ZstdCompressor().compress(DATA) * 2, len(DATA), "unpacked"),
        (zstandard.ZstdCompressor().compress(DATA)[:-1], len(DATA), "unpacked|holds"),
        (bomb(1000, 8 * MIB), 1000, "unpacked|holds"),
        (bomb(9 * MIB, 8 * MIB), 9 * MIB, "unpacked|holds|window"),
    ],
)
def test_other_frames_are_refused(frame: bytes, length: int, problem: str) -> None:
    """Skippable, cut, lying, doubled, checksummed frames and large windows are DeltaErrors."""
    with pytest.raises(DeltaError, match=problem):
        Unpacker().unpack(frame, length)


def test_a_named_dictionary_is_refused() -> None:
    """A dictionary id would name something that no device has."""
    trained = zstandard.train_dictionary(2048, [b"sample %d of text" % i * 9 for i in range(400)])
    frame = zstandard.ZstdCompressor(dict_data=trained).compress(DATA)
    with pytest.raises(DeltaError, match="flags"):
        Unpacker().unpack(frame, len(DATA), b"window")


def test_fewer_bytes_than_a_frame_claims_are_not_believed() -> None:
    """Whatever the library hands out has the length that the record wants."""

    class Short:
        def decompress(self, frame: bytes, **_options: object) -> bytes:
            return frame[:3]

    assert frames._decompress(Short(), b"abc", 3) == b"abc"
    with pytest.raises(DeltaError, match="holds 3 bytes, not 4"):
        frames._decompress(Short(), b"abcd", 4)


def test_a_block_of_two_kinds_is_cut_where_that_is_shorter() -> None:
    """With effort only, and into a frame like any other."""
    random_ = random.Random(5)
    kinds = [bytes(random_.choices(range(16 * n, 16 * n + 16), k=40_000)) for n in range(2)]
    data = b"".join(kinds)
    dense = Packer().pack_parts([data], Effort.DENSE, b"")
    assert len(dense) <= len(Packer().pack(data, Effort.DENSE))
    assert Unpacker().unpack(dense, len(data)) == data
