"""Sizes and speed of deltas between versions that were really fine-tuned, against zstd.

zstd gets the source as a dictionary of raw content and a window over both files, which is
what ``zstd -19 --patch-from`` does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import zstandard

from benchmarks.entropy import model_bound_bytes
from benchmarks.rows import Row, anchor, row
from benchmarks.trained_pair import Pair, train_pairs
from edge_sdk import delta

# 3.3 million weights: zstd -19 takes seconds on it, not minutes.
WIDTHS = (64, 1024, 2048, 512, 10)
TUNE_RATES = (1e-5, 1e-4)
_WINDOW_LOG = 27
_MB = 1_000_000


def measure(folder: Path, *, rounds: int = 3) -> list[Row]:
    """Rows for each precision at each rate of fine-tuning."""
    rows: list[Row] = []
    for rate in TUNE_RATES:
        place = folder / f"rate-{rate:.0e}"
        place.mkdir()
        trained = train_pairs(place, widths=WIDTHS, tune_rate=rate)
        for pair in trained.pairs:
            rows += _pair_rows(pair, f"{pair.precision}.{rate:.0e}", rate, place, rounds)
    return rows


def _pair_rows(pair: Pair, identity: str, rate: float, folder: Path, rounds: int) -> list[Row]:
    out, rebuilt = folder / f"{pair.precision}.delta", folder / f"{pair.precision}.rebuilt"
    encode_s, apply_s = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        with out.open("wb") as stream:
            delta.encode(pair.source, pair.target, stream)
        encode_s.append(time.perf_counter() - began)
        began = time.perf_counter()
        delta.apply(pair.source, out, rebuilt, replace=True)
        apply_s.append(time.perf_counter() - began)
    if rebuilt.read_bytes() != pair.target.read_bytes():
        raise RuntimeError(f"the delta of {identity} does not give back its target")
    target_bytes = pair.target.stat().st_size
    what = f"{pair.precision.upper()}, fine-tuned at {rate:.0e}"
    peer_bytes = zstd_patch_bytes(pair.source, pair.target)
    bound_bytes = model_bound_bytes(pair.source, pair.target)
    return [
        row(
            f"size.{identity}.zstd",
            f"delta of {what}: bytes against zstd -19 with the source as its window",
            [out.stat().st_size / peer_bytes],
            "times",
            "<=",
            target=1.0,
            anchor=anchor("zstd -19 patch, bytes", _zstd_version(), [peer_bytes]),
        ),
        row(
            f"size.{identity}.bound",
            f"delta of {what}: bytes against the entropy of the change",
            [out.stat().st_size / bound_bytes],
            "times",
            "<=",
            anchor=anchor("entropy bound, bytes", "order 0 given the exponent", [bound_bytes]),
        ),
        row(
            f"size.{identity}.share",
            f"delta of {what}: share of the file",
            [out.stat().st_size / target_bytes],
            "of the file",
            "<=",
        ),
        _speed(f"speed.encode.{identity}", f"encoding, {what}", target_bytes, encode_s),
        _speed(f"speed.apply.{identity}", f"applying, {what}", target_bytes, apply_s),
    ]


def _speed(identity: str, what: str, target_bytes: int, seconds: Sequence[float]) -> Row:
    return row(
        identity, what, [target_bytes / _MB / one for one in seconds], "MB/s of target", ">="
    )


def zstd_patch_bytes(source: Path, target: Path) -> int:
    """What zstd makes of ``target`` when it may look back into ``source``."""
    dictionary = zstandard.ZstdCompressionDict(
        source.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=_WINDOW_LOG, enable_ldm=True
    )
    compressor = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
    return len(compressor.compress(target.read_bytes()))


def _zstd_version() -> str:
    return ".".join(map(str, zstandard.ZSTD_VERSION))
