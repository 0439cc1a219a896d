"""What a target holds more than once is made once."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import CHUNK_BYTES, DeltaError, chunk_count
from edge_sdk.delta import Decoder, encode
from edge_sdk.delta.container import parse_prefix
from edge_sdk.delta.methods import NAMES, REPEATS
from tests.independent_decoder.decode import decode, decode_from
from tests.support.deltas import (
    Target,
    decoded,
    encoded,
    prefix_of,
    safetensors,
    tuned,
    weights,
    write_folder,
)

NOISE = np.random.default_rng(5).bytes(CHUNK_BYTES)
FLOATS = weights("float32", 500_000, 1)


def delta_of(
    root: Path, source: Mapping[str, bytes] | None, target: Mapping[str, bytes], **options: object
) -> bytes:
    """Encoded; decoded from the start and from each chunk, by both decoders."""
    before = None if source is None else write_folder(root / "source", source)
    delta = encoded(before, write_folder(root / "target", target), **options)
    sources = list(source.values()) if source else []
    files = list(target.values())
    assert decoded(delta, sources) == files
    assert decode(delta, sources) == target
    chunk, whole = 0, b"".join(files)
    for number, data in enumerate(files):
        for first in range(0, len(data), CHUNK_BYTES):
            at = sum(map(len, files[:number])) + first
            assert decode_from(delta, sources, chunk, whole[:at]) == whole[at:]
            resumed = Target(sources, written=files)
            decoder, spans = resumed.resume(prefix_of(delta), chunk)
            for span in spans:
                decoder.feed(delta[span.offset : span.end])
            decoder.finish()
            assert resumed.first_write == (number, first)
            assert [bytes(one) for one in resumed.files] == files
            chunk += 1
    assert chunk == sum(chunk_count(len(data)) for data in files)
    return delta


@pytest.mark.parametrize("source", [None, {"other": NOISE[::-1]}], ids=["whole", "delta"])
def test_bytes_that_stand_three_times_travel_once(
    tmp_path: Path, source: Mapping[str, bytes] | None
) -> None:
    """A mebibyte of noise, again at an odd offset and again over a chunk's border."""
    target = {"noise": NOISE + b"odd" + NOISE + NOISE[:5000] + NOISE}
    assert len(delta_of(tmp_path, source, target)) < len(NOISE) + 600


@pytest.mark.unmeasured
def test_a_tensor_of_three_names_travels_once(tmp_path: Path) -> None:
    """New, or tuned: tied weights are coded where they stand first."""
    tied = dict.fromkeys("abc", ("float32", FLOATS))
    one = {"a": ("float32", FLOATS)}
    assert len(delta_of(tmp_path / "new", None, {"m": safetensors(tied)})) < 300 + len(
        encoded(None, write_folder(tmp_path / "one", {"m": safetensors(one)}))
    )
    before = {name: ("float32", tuned(FLOATS, seed)) for seed, name in enumerate("abc")}
    moved = delta_of(tmp_path, {"m": safetensors(before)}, {"m": safetensors(tied)})
    (tmp_path / "s").write_bytes(safetensors({"a": before["a"]}))
    (tmp_path / "t").write_bytes(safetensors(one))
    assert len(moved) < 500 + len(encoded(tmp_path / "s", tmp_path / "t"))


def test_a_file_of_three_names_travels_once(tmp_path: Path) -> None:
    """Whatever its size: few bytes among others, and many as a copy."""
    files = {f"{name}{size}": NOISE[:size] for size in (100, 40_000, 900_000) for name in "abc"}
    target = dict(sorted(files.items()))
    assert len(delta_of(tmp_path, None, target)) < 940_100 + 1000


def test_text_is_packed_with_the_text_before_it(tmp_path: Path) -> None:
    """New text is like that of the record before, also where it is no repetition."""
    chance = np.random.default_rng(7)
    words = [chance.bytes(9).hex() for _ in range(30_000)]
    text = " ".join(words[at] for at in chance.permutation(30_000).tolist() * 4).encode()
    alone = encoded(None, write_folder(tmp_path / "t", {"f": text}), methods=["literal"])
    assert len(delta_of(tmp_path, None, {"f": text})) < 0.8 * len(alone)


def test_only_who_can_read_the_target_gets_repeats(tmp_path: Path) -> None:
    """Without the word among the methods there is no such record; without the means to read
    it, such a delta is refused before anything is read or written."""
    target = write_folder(tmp_path, {"f": NOISE * 2})
    out = io.BytesIO()
    encode(None, target, out, methods=[name for name in NAMES if name != REPEATS])
    assert not parse_prefix(prefix_of(out.getvalue())).repeats
    assert decoded(out.getvalue()) == [NOISE * 2]
    delta = encoded(None, target)
    assert parse_prefix(prefix_of(delta)).repeats
    wanting = Target(())
    decoder = Decoder(
        read_source=wanting.read_source, write=wanting.write, memory_limit_bytes=32 << 20
    )
    with pytest.raises(DeltaError, match="reads what it has made"):
        decoder.feed(delta)
    assert wanting.first_write is None
