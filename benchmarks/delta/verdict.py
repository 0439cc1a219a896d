"""The table of targets: each row's figure, computed from what was measured on the pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.delta.pairs import Pair
from benchmarks.delta.peers import ALL, GENERIC, XOR
from benchmarks.rows import Anchor, Direction, Row
from edge_sdk.base import EdgeError

# What came with the given pairs; detools was not among them.
LISTED = ("zstd", "xdelta3", "bsdiff", "hdiffpatch", "z4ai", "zipnn", "pcodec", "bitx")


class MissedError(EdgeError):
    """Not every target is met."""


ALLOWANCE_BYTES = 256
_BOUND_WEIGHTS, _BOUND_CHANGED = 1_000_000, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A pair, what we made of it (None: not measured), and the peers' entries by name."""

    pair: Pair
    ours: Mapping[str, Any] | None
    peers: Mapping[str, Mapping[str, Any]]

    @property
    def named(self) -> tuple[str, ...]:
        return ALL if self.pair.generated else LISTED

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self.peers]

    def smallest(self, names: Sequence[str]) -> tuple[str, int] | None:
        sizes = [(one["bytes"], name) for name in names if (one := self.peers.get(name))]
        known = [(size, name) for size, name in sizes if size is not None]
        return (min(known)[1], min(known)[0]) if known else None

    def share(self, names: Sequence[str], allowance_bytes: int = 0) -> float | None:
        """Our bytes, less an allowance, of the smallest of the named peers."""
        smallest = self.smallest(names)
        if smallest is None or self.ours is None:
            return None
        ours_bytes: int = self.ours["bytes"]
        return max(0, ours_bytes - allowance_bytes) / max(1, smallest[1])

    def fact(self, name: str) -> Any:
        return self.pair.facts.get(name)


Fold = Callable[[Sequence[float]], float]


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(max(value, 1e-9)) for value in values) / len(values))


def figure(
    identity: str,
    what: str,
    samples: Sequence[float | None],
    fold: Fold,
    target: float,
    *,
    unit: str = "times",
    direction: Direction = "<=",
    lacking: str = "",
    anchor: Anchor | None = None,
) -> Row:
    """A row whose value ``fold`` makes of the samples; none where anything lacks."""
    known = [one for one in samples if one is not None]
    if len(known) < len(samples):
        lacking = f"{len(known)} of {len(samples)} measured{', ' if lacking else ''}{lacking}"
    if not samples:
        lacking = lacking or "no such pair"
    value = fold(known) if known else None
    if lacking:
        so_far = "" if value is None else f"; so far {value:.3f}"
        what, value = f"{what} (not met: {lacking}{so_far})", None
    return Row(
        id=identity,
        what=what,
        value=value,
        unit=unit,
        direction=direction,
        target=target,
        samples=tuple(known),
        anchor=anchor,
    )


def shares(
    identity: str,
    what: str,
    measured: Iterable[Measured],
    fold: Fold,
    target: float,
    *,
    peers: Sequence[str] | None = None,
    allowance_bytes: int = 0,
) -> Row:
    """A row of the shares of pairs in the smallest of the named peers (default: all)."""
    chosen = list(measured)
    absent: dict[str, int] = {}
    for one in chosen:
        for name in one.missing(peers or one.named):
            absent[name] = absent.get(name, 0) + 1
    counts = ", ".join(f"{name} on {count}" for name, count in absent.items())
    samples = [one.share(peers or one.named, allowance_bytes) for one in chosen]
    return figure(
        identity,
        f"{what}: {_folded(fold, chosen, samples, target)}",
        samples,
        fold,
        target,
        lacking=f"peers missing: {counts}" if counts else "",
    )


def _folded(
    fold: Fold, chosen: Sequence[Measured], samples: Sequence[float | None], target: float
) -> str:
    """How many pairs make up a row; of the largest, which one it is and how many are too large."""
    if fold is geometric_mean:
        return f"geometric mean of {len(chosen)} pairs"
    known = [(share, one.pair.id) for share, one in zip(samples, chosen, strict=True) if share]
    if not known:
        return f"largest of {len(chosen)} pairs"
    above = sum(share > target for share, _ in known)
    over = f", {above} above the target" if above else ""
    return f"largest of {len(chosen)} pairs, {max(known)[1]}{over}"


def size_rows(measured: Sequence[Measured]) -> list[Row]:
    """The rows on generated pairs, in the order of the table."""

    def of(row: str, keep: Callable[[Measured], bool] = lambda _one: True) -> list[Measured]:
        return [one for one in measured if one.pair.row == row and keep(one)]

    bf16, xor = "bf16 fine-tunes against z4ai, ZipNN, BitX", XOR
    fp16, fp32 = "fp16 ONNX against generic tools", "fp32 ONNX against generic tools"
    dense, light = "INT8 ONNX, {} changed, against generic tools", "INT8 ONNX, light, against"
    mean = geometric_mean
    return [
        shares("size.bf16.mean", bf16, of("bf16"), mean, 0.74, peers=xor),
        shares(
            "size.bf16.each",
            f"{bf16}, to 1e-4",
            of("bf16", lambda one: one.fact("rate") <= 1e-4),
            max,
            0.82,
            peers=xor,
        ),
        shares(
            "size.bf16.fast",
            f"{bf16}, at 1e-3",
            of("bf16", lambda one: one.fact("rate") > 1e-4),
            max,
            0.91,
            peers=xor,
        ),
        shares("size.fp16.mean", fp16, of("fp16"), mean, 0.52, peers=GENERIC),
        shares("size.fp16.each", fp16, of("fp16"), max, 0.70, peers=GENERIC),
        shares("size.fp32.mean", fp32, of("fp32"), mean, 0.70, peers=GENERIC),
        shares("size.fp32.each", fp32, of("fp32"), max, 0.76, peers=GENERIC),
        shares(
            "size.int8.half", dense.format("from half"), of("int8-dense"), max, 0.70, peers=GENERIC
        ),
        shares(
            "size.int8.most",
            dense.format("from 0.8"),
            of("int8-dense", lambda one: one.fact("changed") >= 0.8),
            max,
            0.46,
            peers=GENERIC,
        ),
        shares(
            "size.int8.light", f"{light} generic tools", of("int8-light"), max, 0.88, peers=GENERIC
        ),
    ]


def published_rows(measured: Sequence[Measured]) -> list[Row]:
    rows = []
    given = [one for one in measured if not one.pair.generated]
    targets = {"fine-tune": (0.84, 1.0), "retrained": (0.92, 1.0), "derived": (0.10, None)}
    names = {
        "fine-tune": "published fine-tunes",
        "retrained": "published retrained models",
        "derived": "published derivations",
    }
    for row, (mean, each) in targets.items():
        chosen = [one for one in given if one.pair.row == row]
        what = f"{names[row]} against the smallest peer"
        rows.append(shares(f"size.{row}.mean", what, chosen, geometric_mean, mean))
        if each is not None:
            rows.append(shares(f"size.{row}.each", what, chosen, max, each))
    rows.append(
        shares(
            "size.every",
            f"every pair against the smallest peer, {ALLOWANCE_BYTES} bytes allowed",
            measured,
            max,
            1.02,
            allowance_bytes=ALLOWANCE_BYTES,
        )
    )
    return rows


def bound_rows(measured: Sequence[Measured]) -> list[Row]:
    """Ours against the entropy bound, where a million weights and a tenth of them changed."""

    def of(*dtypes: str, network: str = "") -> list[float | None]:
        chosen = [
            one
            for one in measured
            if one.fact("dtype") in dtypes
            and one.fact("weights") >= _BOUND_WEIGHTS
            and one.fact("changed") > _BOUND_CHANGED
            and network in {"", one.fact("network")}
        ]
        return [
            one.ours["bytes"] / one.ours["bound_bytes"]
            if one.ours and one.ours["bound_bytes"]
            else None
            for one in chosen
        ]

    what = "against the entropy bound, over 10 % changed"
    floats, lm = of("bf16", "fp16", "fp32"), of("bf16", network="lm")
    return [
        figure("bound.floats", f"floats {what}: largest of {len(floats)}", floats, max, 1.01),
        figure("bound.int8", f"INT8 {what}: largest", of("int8"), max, 1.03),
        figure("bound.lm", f"bf16 transformers {what}: geometric mean", lm, geometric_mean, 0.99),
    ]


def pair_rows(measured: Sequence[Measured]) -> list[Row]:
    """One row for each pair, without a target: what the chart shows and the others rest on."""
    rows = []
    for one in measured:
        smallest = one.smallest(one.named)
        anchor = None
        if smallest is not None:
            name, size_bytes = smallest
            version = str(one.peers[name]["version"])
            anchor = Anchor(name=name, version=version, value=size_bytes, samples=(size_bytes,))
        rows.append(
            Row(
                id=f"pair.{one.pair.row or 'other'}.{one.pair.id}",
                what=_pair_what(one),
                value=one.share(one.named),
                unit="of the smallest peer",
                direction="<=",
                target=None,
                samples=(float(one.ours["bytes"]),) if one.ours else (),
                anchor=anchor,
            )
        )
    return rows


def _pair_what(one: Measured) -> str:
    text = f"{one.pair.id}: {one.pair.new_bytes:,} bytes"
    if one.pair.generated:
        text += f", {one.fact('weights'):,} weights, {one.fact('changed'):.1%} changed"
    if one.ours is not None:
        text += f"; delta {one.ours['bytes']:,}"
        if one.ours.get("bound_bytes"):
            text += f", {one.ours['bytes'] / one.ours['bound_bytes']:.3f} of the bound"
    absent = one.missing(one.named)
    return text + (f"; peers missing: {', '.join(absent)}" if absent else "")
