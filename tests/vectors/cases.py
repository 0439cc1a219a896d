"""What the vectors hold: files before and after, one case for each thing a decoder must know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tests.support.deltas import safetensors, tuned, weights

Files = Mapping[str, bytes]
KINDS = ("int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Case:
    """Files of the source (None: a whole) and of the target."""

    name: str
    what: str
    source: Files | None
    target: Files


def cases() -> Iterator[Case]:
    yield from _plain()
    yield from _elements()
    yield from _maps()
    yield from _trained()
    yield from _layouts()
    yield from _chunks()


def noise(count: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(count)


def matrix(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, columns)).astype(np.float32)


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"<u{array.dtype.itemsize}")


def model(**tensors: np.ndarray) -> bytes:
    """A safetensors file; uint16 stands for bfloat16."""
    names = {"uint16": "bfloat16"}
    return safetensors(
        {
            name: (names.get(array.dtype.name, array.dtype.name), bits(array))
            for name, array in tensors.items()
        }
    )


def text(lines: int, skip: int = -1) -> bytes:
    return "".join(f"label {i} {i * i * 7919}\n" for i in range(lines) if i != skip).encode()


def _plain() -> Iterator[Case]:
    kept = noise(5000, 1)
    yield Case("identical", "Nothing changed.", {"f": kept}, {"f": kept})
    yield Case("empty", "A whole of one empty file.", None, {"f": b""})
    yield Case("whole", "No source: text and bytes without order.", None, {"f": text(300) + kept})
    yield Case("inserted", "Bytes in between.", {"f": kept}, {"f": kept[:999] + b"!" + kept[999:]})
    yield Case("text", "Text with one line less.", {"t": text(200)}, {"t": text(200, 77)})
    folder = {"a/empty": b"", "kept.bin": kept, "labels.txt": text(50), "z": b""}
    new = {"a/b/c": kept[::-1], "a/empty": b"", "labels.txt": text(50, 9), "é/ß": kept[7:]}
    yield Case("folder", "Files come, go and change; names beyond ASCII.", folder, new)
    same = model(a=matrix(30, 40, 1), b=matrix(30, 40, 1))
    yield Case("repeats", "The same tensor twice, from nothing.", None, {"m": same + same[40:]})
    many = {f"labels/{n:03}.json": text(20, n) for n in range(40)}
    yield Case("many-files", "Small files like one another.", None, many)


def _elements() -> Iterator[Case]:
    for kind in KINDS:
        before = weights(kind, 3000, 1)
        after = {"dense": tuned(before, 2), "sparse": before.copy()}
        after["sparse"][::40] = tuned(before, 2)[::40]
        for density, bits_after in after.items():
            yield Case(
                f"{density}-{kind}",
                f"A {density} update of {kind}, with every special bit pattern.",
                {"m": safetensors({"w": (kind, before)})},
                {"m": safetensors({"w": (kind, bits_after)})},
            )
        yield Case(
            f"alone-{kind}",
            f"{kind} with nothing before it.",
            None,
            {"m": safetensors({"w": (kind, weights(kind, 4000, 3))})},
        )
    for kind in ("float16", "bfloat16", "float32", "float64"):
        shared, moves = (np.random.default_rng(seed).normal(0, 0.05, 9000) for seed in (1, 2))
        far = (_narrow(shared, kind), _narrow(shared * 0.5 + moves, kind))
        source, target = ({"m": safetensors({"w": (kind, one)})} for one in far)
        yield Case(f"far-{kind}", f"{kind}, trained again.", source, target)
    before = matrix(60, 512, 1).ravel()
    step = np.repeat([0.0, 1e-4, 3e-3, 3e-2], 15)[:, None]
    step = np.random.default_rng(3).permutation(step)
    after_ = before + (matrix(60, 512, 2) * step).ravel()
    source, target = (
        {"m": safetensors({"w": ("float16", _narrow(one, "float16"))})} for one in (before, after_)
    )
    yield Case("levels", "Rows that moved by different sizes.", source, target)


def _narrow(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "bfloat16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return bits(values.astype(kind))


def _maps() -> Iterator[Case]:
    wide = matrix(30, 300, 1)
    wide[:, :3] = [np.inf, -0.0, 1e-41]
    with np.errstate(all="ignore"):
        half = wide.astype(np.float16)
    yield Case("cast", "float32 becomes float16.", {"m": model(w=wide)}, {"m": model(w=half)})
    back = half.astype(np.float32)
    yield Case("cast-back", "float16 becomes float32.", {"m": model(w=half)}, {"m": model(w=back)})
    plain = matrix(30, 300, 1)
    rows = np.linspace(0.5, 2, 30, dtype=np.float32)[:, None]
    source = {"m": model(w=plain)}
    yield Case("scale", "A factor for each row.", source, {"m": model(w=plain * rows)})
    factor = (np.abs(plain).max(1) / np.float32(127)).astype(np.float32)
    whole = np.rint(plain / factor[:, None]).astype(np.int8)
    small = {"m": model(w=whole, w_scale=factor)}
    yield Case("quantise", "float32 becomes int8 by row.", source, small)
    again = {"m": model(w=whole.astype(np.float32) * factor[:, None])}
    yield Case("dequantise", "int8 becomes float32 by row.", small, again)


def _trained() -> Iterator[Case]:
    """Steps of training: few products of a column and a row, and a little noise."""
    for kind in ("float16", "bfloat16", "float32", "int8"):
        random = np.random.default_rng(7)
        before = matrix(96, 128, 6)
        step = random.normal(0, 1, (96, 2)) @ random.normal(0, 1, (2, 128))
        after = before + 3e-3 * step + random.normal(0, 1e-5, (96, 128))
        if kind == "int8":
            pair = [bits(np.rint(one * 400).astype(np.int8)) for one in (before, after)]
        else:
            pair = [_narrow(one.astype(np.float32), kind) for one in (before, after)]
        source, target = ({"m": safetensors({"w": (kind, one)})} for one in pair)
        yield Case(f"low-rank-{kind}", f"A step of low rank of {kind}.", source, target)


def _layouts() -> Iterator[Case]:
    flat = weights("float32", 24 * 10 * 7 * 6, 1)
    before = {"w": ("float32", flat.reshape(24, 10, 7, 6))}
    moved = {
        "w": ("float32", np.ascontiguousarray(flat.reshape(24, 10, 7, 6).transpose(2, 0, 3, 1)))
    }
    yield Case(
        "transposed",
        "Four axes in another order.",
        {"m": safetensors(before)},
        {"m": safetensors(moved)},
    )
    q, k, v = (matrix(32, 100, seed) for seed in (1, 2, 3))
    joined = np.ascontiguousarray(np.concatenate([k, q, v]).T)
    yield Case(
        "joined",
        "One tensor out of three, transposed.",
        {"m": model(q=q, k=k, v=v)},
        {"m": model(qkv=joined)},
    )


def _chunks() -> Iterator[Case]:
    """Files of more than one chunk, of bytes that a repository stores small."""
    filler = np.tile(np.random.default_rng(1).integers(0, 256, 4096), 257)
    filler = filler[: (1 << 20) - 2001].astype(np.uint8)
    before = weights("bfloat16", 3000, 2)

    def file(extra: int, bits_of: np.ndarray) -> bytes:
        odd = ("uint8", np.append(filler, np.zeros(extra, np.uint8)))
        return safetensors({"filler": odd, "w": ("bfloat16", bits_of)})

    yield Case(
        "odd-offset",
        "Elements cut by the border of a chunk.",
        {"m": file(1, before)},
        {"m": file(2, tuned(before, 3))},
    )
    long = bytes(filler) + noise(4000, 9) + bytes(filler[::-1])
    yield Case(
        "moved",
        "Copies over several chunks.",
        {"n": long},
        {"n": long[70_001:] + b"new" + long[:50_000], "o": long[5:]},
    )
