"""Speed and memory on files of 256 MiB to 4 GiB.

Their values and steps are those of the trained transformer at 1e-5, drawn again and again in
another order: the joint distribution of a real fine-tune, and nothing that repeats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.delta import ours
from benchmarks.delta.pairs import Pair, sha256
from benchmarks.delta.verdict import figure
from benchmarks.rows import Row
from edge_sdk import delta
from edge_sdk.formats import open_model

SPEED_BYTES = 256 << 20
MEMORY_BYTES = (1 << 30, 4 << 30)
_TENSOR_BYTES = 64 << 20
_SMALL_BYTES = 64 << 10
_MB = 1_000_000
_MIB = 1 << 20
# Target bytes a second on one core, without hashing (bf16, fp16) and with it.
_DECODE = {"bf16": 400, "fp16": 350}
_ENCODE, _APPLY = 100, 300
_ALPHABET = {"bf16": "BF16", "fp16": "F16"}

Values = npt.NDArray[np.uint16]


def write_large(pair: Pair, folder: Path, model_bytes: int) -> Pair:
    """Two safetensors files of about ``model_bytes`` after a generated pair of 16 bits."""
    dtype = pair.facts["dtype"]
    old, new = _values(pair.old), _values(pair.new)
    weights = _TENSOR_BYTES // 2
    count = model_bytes // _TENSOR_BYTES
    header: dict[str, Any] = {}
    for number in range(count):
        span = [number * _TENSOR_BYTES, (number + 1) * _TENSOR_BYTES]
        header[f"layer{number:04d}.weight"] = {
            "dtype": _ALPHABET[dtype],
            "shape": [weights // 4096, 4096],
            "data_offsets": span,
        }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    random = np.random.default_rng(31)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "old.safetensors", folder / "new.safetensors"
    with paths[0].open("wb") as before, paths[1].open("wb") as after:
        for stream in (before, after):
            stream.write(len(head).to_bytes(8, "little") + head)
        for _ in range(count):
            order = _orders(random, len(old), weights)
            before.write(old[order].data)
            after.write(new[order].data)
    identity = f"large-{dtype}-{model_bytes >> 20}"
    return Pair(id=identity, row="large", old=paths[0], new=paths[1], facts=pair.facts)


def _values(path: Path) -> Values:
    """All values of a file's tensors of 16 bits, one after the other."""
    parts = [
        np.fromfile(path, np.uint16, one.length // 2, offset=one.offset)
        for one in open_model(path).tensors
        if one.length > _SMALL_BYTES
    ]
    return np.concatenate(parts)


def _orders(random: np.random.Generator, count: int, wanted: int) -> npt.NDArray[np.int64]:
    """``wanted`` places below ``count``: every place once before any comes again."""
    parts = []
    places = np.arange(count, dtype=np.int64)
    for _ in range(-(-wanted // count)):
        stride = int(random.integers(count // 8, count)) | 1
        while np.gcd(stride, count) != 1:
            stride += 2
        parts.append((places * stride + int(random.integers(count))) % count)
    return np.concatenate(parts)[:wanted]


def _with(pair: Pair, work: Callable[[Pair, Path], list[Row]]) -> list[Row]:
    """The rows of ``work`` on a large pair, whose files are then removed."""
    made = pair.new.parent / "delta"
    try:
        return work(pair, made)
    finally:
        for path in (pair.old, pair.new, made, made.with_name("rebuilt")):
            path.unlink(missing_ok=True)


def speed_rows(pairs: Sequence[Pair], folder: Path, rounds: int = 3) -> list[Row]:
    rows: list[Row] = []
    for pair in pairs:
        large = write_large(pair, folder, SPEED_BYTES)
        rows += _with(large, lambda one, made: _speeds(one, made, rounds))
    return rows


def _speeds(pair: Pair, made: Path, rounds: int) -> list[Row]:
    rebuilt = made.with_name("rebuilt")
    jobs: dict[str, list[float]] = {"encode": [], "decode": [], "apply": []}
    megabytes = pair.new_bytes / _MB
    for _ in range(rounds):
        for name, samples in jobs.items():
            target = pair.new
            if name == "apply":
                target = rebuilt
                rebuilt.unlink(missing_ok=True)
            samples.append(megabytes / ours.run_job(name, pair.old, target, made).cpu_s)
    if sha256(rebuilt) != sha256(pair.new):
        raise RuntimeError(f"the delta of {pair.id} does not give back its target")
    dtype = pair.facts["dtype"]
    what = f"{dtype} fine-tune of {pair.new_bytes / _MIB:.0f} MiB, per core"
    targets = {"encode": _ENCODE, "decode": _DECODE[dtype], "apply": _APPLY}
    words = {
        "encode": "encoding",
        "decode": "applying without hashing",
        "apply": "applying, source and target proved",
    }
    return [
        figure(
            f"speed.{name}.{dtype}",
            f"{words[name]}, {what}",
            samples,
            lambda values: float(np.median(values)),
            targets[name],
            unit="MB/s of target",
            direction=">=",
        )
        for name, samples in jobs.items()
    ]


def memory_rows(pair: Pair, folder: Path, model_bytes: int) -> list[Row]:
    large = write_large(pair, folder, model_bytes)
    return _with(large, lambda one, made: _memory(one, made, encode=model_bytes == 4 << 30))


def _memory(pair: Pair, made: Path, *, encode: bool) -> list[Row]:
    rebuilt = made.with_name("rebuilt")
    encoded = ours.run_job("encode", pair.old, pair.new, made)
    applied = ours.run_job("apply", pair.old, rebuilt, made)
    if sha256(rebuilt) != sha256(pair.new):
        raise RuntimeError(f"the delta of {pair.id} does not give back its target")
    gibibytes = round(pair.new_bytes / (1 << 30))
    what = f"peak RssAnon above idle, a {gibibytes} GiB model (bf16)"
    limit = delta.DEFAULT_MEMORY_LIMIT_BYTES / _MIB
    declared = delta.inspect(made).memory_bytes / _MIB
    rows = [
        _mebibytes(f"memory.apply.{gibibytes}", f"applying: {what}", applied.peak_bytes, 32),
        figure(
            f"memory.declared.{gibibytes}",
            f"memory that the header declares, a {gibibytes} GiB model",
            [declared],
            max,
            limit,
            unit="MiB",
        ),
    ]
    if encode:
        rows.append(_mebibytes("memory.encode.4", f"encoding: {what}", encoded.peak_bytes, 1024))
    return rows


def _mebibytes(identity: str, what: str, size_bytes: int, target: float) -> Row:
    return figure(identity, what, [size_bytes / _MIB], max, target, unit="MiB")
