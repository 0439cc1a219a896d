"""FORMAT.md is enough: a decoder written from it alone agrees with ours."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.independent_decoder.decode import decode, decode_from
from tests.independent_decoder.survey import Survey, survey
from tests.independent_decoder.value_maps import CAST, DEQUANTISE, QUANTISE, SCALE
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

KINDS = ["int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
CHUNK = 1 << 20
COPY, LITERAL, PATCH, RESIDUAL, PLANES = 1, 2, 3, 4, 5
BY_LEAN = 4

Tensors = Mapping[str, np.ndarray]


def agree(
    tmp_path: Path, source: Mapping[str, bytes] | None, target: Mapping[str, bytes]
) -> Survey:
    """Both decoders make the target, from the start and from its middle chunk."""
    before = None if source is None else write_folder(tmp_path / "s", source)
    delta = encoded(before, write_folder(tmp_path / "t", target))
    return agree_on(delta, [] if source is None else list(source.values()), target)


def agree_on(delta: bytes, sources: list[bytes], target: Mapping[str, bytes]) -> Survey:
    assert decode(delta, sources) == target
    assert decoded(delta, sources) == list(target.values())
    starts, at = [], 0
    for data in target.values():
        starts += [at + offset for offset in range(0, len(data), CHUNK)]
        at += len(data)
    if starts:
        chunk = len(starts) // 2
        whole = b"".join(target.values())
        before, rest = whole[: starts[chunk]], whole[starts[chunk] :]
        assert decode_from(delta, sources, chunk, before) == rest
        assert resumed(delta, sources, chunk, target).endswith(rest)
    return survey(delta, sources)


def resumed(
    delta: bytes, sources: list[bytes], chunk: int, target_files: Mapping[str, bytes]
) -> bytes:
    """What our decoder makes from a chunk on, after what was written before."""
    target = Target(sources, written=list(target_files.values()))
    decoder, spans = target.resume(prefix_of(delta), chunk)
    for span in spans:
        decoder.feed(delta[span.offset : span.end])
    decoder.finish()
    return b"".join(target.files)


def model(**tensors: np.ndarray) -> bytes:
    """A safetensors file of arrays; uint16 stands for bfloat16."""
    return safetensors({name: (kind_of(array), bits(array)) for name, array in tensors.items()})


def kind_of(array: np.ndarray) -> str:
    return "bfloat16" if array.dtype == np.uint16 else array.dtype.name


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"<u{array.dtype.itemsize}")


def bfloat16(array: np.ndarray) -> np.ndarray:
    """Rounded to nearest, ties to even; no NaN comes in."""
    wide = array.astype("<f4").view("<u4").astype(np.uint64)
    return ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)


def as_kind(values: np.ndarray, kind: str) -> np.ndarray:
    return bfloat16(values) if kind == "bfloat16" else values.astype(kind)


def matrix(rows: int, columns: int, seed: int, kind: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, columns)).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [1, 40])
def test_both_decoders_agree(tmp_path: Path, kind: str, every: int) -> None:
    """Dense and sparse updates of each kind of element, with copies, text and new bytes."""
    before = weights(kind, 3000, 1)
    after = before.copy()
    after[::every] = tuned(before, 2)[::every]
    text = "\n".join(f"{n} label" for n in range(500)).encode()
    source = {"kept": bytes(range(256)) * 3, "m": safetensors({"w": (kind, before)}), "t": text}
    target = {
        "empty": b"",
        "kept": source["kept"],
        "m": safetensors({"w": (kind, after)}),
        "new": np.random.default_rng(3).bytes(400),
        "t": text.replace(b"77 label", b"77 other"),
    }
    found = agree(tmp_path, source, target)
    assert found.methods == {COPY, PATCH, RESIDUAL}
    assert found.models == {3 if every == 40 and "float" in kind else 0}


def test_elements_cut_by_a_chunk_agree(tmp_path: Path) -> None:
    """A tensor at an odd offset: elements that a chunk's border cuts come back in both."""
    before = weights("float32", (1 << 18) + 400, 1)
    source = safetensors({"odd": ("int8", weights("int8", 3, 1)), "w": ("float32", before)})
    target = safetensors(
        {"odd": ("int8", weights("int8", 3, 2)), "w": ("float32", tuned(before, 2))}
    )
    (tmp_path / "a").write_bytes(source)
    (tmp_path / "b").write_bytes(target)
    delta = encoded(tmp_path / "a", tmp_path / "b")
    assert RESIDUAL in agree_on(delta, [source], {"b": target}).methods


@pytest.mark.parametrize("to", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("back", [False, True])
def test_casts_agree(tmp_path: Path, to: str, back: bool) -> None:
    """Weights in another kind of float, there and back, with what is special in each."""
    wide = matrix(90, 400, 1)
    wide[:, :3] = [np.inf, -0.0, 1e-41]
    with np.errstate(all="ignore"):
        narrow = as_kind(wide, to)
    if back and to == "bfloat16":
        wide = (narrow.astype("<u4") << 16).view("<f4")
    elif back:
        wide = narrow.astype("<f4")
    first, second = (narrow, wide) if back else (wide, narrow)
    found = agree(tmp_path, {"m": model(w=first)}, {"m": model(w=second)})
    assert CAST in found.value_maps


@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_scaled_tensors_agree(tmp_path: Path, kind: str) -> None:
    """All weights times one factor."""
    before = matrix(90, 400, 1).astype(kind)
    after = before * np.asarray(0.7321, kind)
    found = agree(tmp_path, {"m": model(w=before)}, {"m": model(w=after)})
    assert SCALE in found.value_maps


def quantised(floats: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, factors and zero points, one of each for a row."""
    low, high = np.minimum(floats.min(1), 0), np.maximum(floats.max(1), 0)
    if kind == "int8":
        factor = (np.abs(floats).max(1) / np.float32(127)).astype(np.float32)
        zero = np.zeros(len(floats), np.int8)
    else:
        factor = ((high - low) / np.float32(255)).astype(np.float32)
        zero = np.rint(-low / factor).astype(np.uint8)
    whole = np.rint(floats / factor[:, None]) + zero[:, None]
    limits = np.iinfo(kind)
    return np.clip(whole, limits.min, limits.max).astype(kind), factor, zero


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("back", [False, True])
def test_quantised_tensors_agree(tmp_path: Path, kind: str, back: bool) -> None:
    """Weights quantised by row, and made floats again."""
    floats = matrix(90, 400, 1)
    numbers, factor, zero = quantised(floats, kind)
    small = {"w": numbers, "w_scale": factor}
    if kind == "uint8":
        small["w_zero_point"] = zero
    if back:
        wide = (numbers.astype(np.float32) - zero[:, None]) * factor[:, None]
        found = agree(tmp_path, {"m": model(**small)}, {"m": model(w=wide)})
    else:
        found = agree(tmp_path, {"m": model(w=floats)}, {"m": model(**small)})
    assert (DEQUANTISE if back else QUANTISE) in found.value_maps


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8", "uint8"])
def test_rounded_revisions_agree(tmp_path: Path, kind: str) -> None:
    """Weights that moved by less than a step before they were rounded: the code asks for leans."""
    floats = matrix(90, 400, 1)
    numbers, factor, zero = quantised(floats, "int8" if kind == "int8" else "uint8")
    if kind in ("float16", "bfloat16"):
        small = {"w": as_kind(floats + matrix(90, 400, 2) * 2e-4, kind)}
    else:
        moved = (floats + matrix(90, 400, 2) * 4e-3) / factor[:, None]
        limits = np.iinfo(kind)
        whole = np.clip(np.rint(moved) + zero[:, None], limits.min, limits.max)
        small = {"w": whole.astype(numbers.dtype), "w_scale": factor}
        small |= {} if kind == "int8" else {"w_zero_point": zero}
    found = agree(tmp_path, {"m": model(w=floats)}, {"m": model(**small)})
    assert found.value_maps <= {CAST, QUANTISE}
    assert BY_LEAN in found.models


@pytest.mark.parametrize("kind", ["float32", "int16"])
@pytest.mark.parametrize("moved", [False, True])
def test_transposed_tensors_agree(tmp_path: Path, kind: str, moved: bool) -> None:
    """Permuted axes of two and four dimensions, as they are and tuned."""
    flat = weights(kind, 24 * 10 * 7 * 30, 1)
    after = tuned(flat, 2) if moved else flat
    shapes = {"w": (240, 210), "v": (24, 10, 7, 30)}
    axes = {"w": (1, 0), "v": (2, 0, 3, 1)}
    source = {name: (kind, flat[::-1].reshape(shape)) for name, shape in shapes.items()}
    target = {
        name: (kind, np.ascontiguousarray(after[::-1].reshape(shape).transpose(axes[name])))
        for name, shape in shapes.items()
    }
    found = agree(tmp_path, {"m": safetensors(source)}, {"m": safetensors(target)})
    assert found.strides


def test_split_tensors_agree(tmp_path: Path) -> None:
    """One tensor out of three, with the blocks in another order."""
    q, k, v = matrix(64, 300, 1), matrix(64, 300, 2), matrix(64, 300, 3)
    whole = np.concatenate([k, q, v]).T
    agree(tmp_path, {"m": model(q=q, k=k, v=v)}, {"m": model(qkv=whole)})
    found = agree(tmp_path / "back", {"m": model(qkv=whole)}, {"m": model(q=q, k=k[:, ::-1], v=v)})
    assert found.strides


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "float64"])
def test_retrained_tensors_agree(tmp_path: Path, kind: str) -> None:
    """A revision far from the source: the difference costs more than what is given."""
    shared, moves, other = (matrix(150, 400, seed, "float64") for seed in (1, 2, 3))
    unlike = np.sign(shared) * np.abs(other)
    before = {"a": shared, "b": shared + 1, "c": shared}
    after = {"a": shared * 0.5 + moves, "b": shared * 0.5 + moves + 1, "c": unlike}
    source, target = (
        {"m": model(**{name: as_kind(array, kind) for name, array in one.items()})}
        for one in (before, after)
    )
    found = agree(tmp_path, source, target)
    assert (0 if kind == "float64" else 1) in found.models


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_levels_agree(tmp_path: Path, kind: str) -> None:
    """A fine-tune that moved some rows far more than others."""
    before = matrix(300, 512, 1)
    step = np.repeat([0.0, 1e-4, 3e-3, 3e-2], 75)[:, None]
    after = before + matrix(300, 512, 2) * np.random.default_rng(3).permutation(step)
    first, second = as_kind(before, kind), as_kind(after, kind)
    found = agree(tmp_path, {"m": model(w=first)}, {"m": model(w=second)})
    assert max(found.levels) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_wholes_agree(tmp_path: Path, kind: str) -> None:
    """No source at all: tensors alone, text and noise."""
    target = {
        "a/empty": b"",
        "m": safetensors({"w": (kind, weights(kind, 30000, 1)), "v": (kind, weights(kind, 7, 2))}),
        "noise": np.random.default_rng(3).bytes(70000),
        "text": b"".join(b"%d lines of text\n" % number for number in range(9000)),
    }
    found = agree(tmp_path, None, target)
    assert found.methods & {LITERAL, PATCH}


def test_empty_files_agree(tmp_path: Path) -> None:
    """Empty files before, between and behind others, in sources and targets."""
    noise = np.random.default_rng(1).bytes(5000)
    source = {"a": b"", "b": noise, "c": b""}
    target = {"0": b"", "a/0": b"", "a/b": noise[9:], "a/c": b"", "b": noise, "z": b"", "é/ß": b""}
    agree(tmp_path, source, target)
    agree(tmp_path / "all", source, {"x": b"", "y/z": b""})
    agree(tmp_path / "none", None, {"x": b""})


def test_copies_over_chunks_agree(tmp_path: Path) -> None:
    """Bytes of several chunks in another order, with an insertion, at odd offsets."""
    noise = np.random.default_rng(1).bytes(5 * CHUNK // 2)
    target = noise[CHUNK + 77 :] + noise[: CHUNK // 3] + b"inserted" + noise[CHUNK // 3 : CHUNK]
    found = agree(tmp_path, {"n": noise}, {"m": b"", "n": target, "o": noise[5:]})
    assert PATCH in found.methods
    found = agree(tmp_path / "whole", {"n": noise}, {"m": b"", "n": noise})
    assert COPY in found.methods


@pytest.mark.parametrize(
    ("kind", "with_source"),
    [
        ("bfloat16", True),
        ("int32", True),
        ("float64", True),
        ("bfloat16", False),
        ("float32", False),
        ("int16", False),
    ],
)
def test_odd_offsets_agree(tmp_path: Path, kind: str, with_source: bool) -> None:
    """Tensors at an odd offset over a chunk's border, tuned and alone; the rest is copied."""
    filler = np.random.default_rng(1).integers(0, 256, CHUNK - 20001).astype(np.uint8)
    before = weights(kind, 20000, 2)

    def file(extra: int, bits_of: np.ndarray) -> bytes:
        odd = ("uint8", np.append(filler, np.zeros(extra, np.uint8)))
        return safetensors({"filler": odd, "w": (kind, bits_of)})

    source = {"m": file(1, before)} if with_source else None
    found = agree(tmp_path, source, {"m": file(2, tuned(before, 3))})
    assert (RESIDUAL if with_source else PLANES) in found.methods
