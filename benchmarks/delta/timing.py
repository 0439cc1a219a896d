"""Times beside the peers', in turns: on a named subset, since the slow ones take their time.

The same work is timed on both sides, twice: *files*, from source and delta as files to a target
that is a durable file, source and target proved by SHA-256 on the way; and *memory*, from bytes
to bytes with nothing proved. Everything is imported before the clock starts, and every sample is
the first in its process.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.delta import ours
from benchmarks.delta.peers import PeerRoom, write_bundle
from benchmarks.delta.verdict import Measured, figure
from benchmarks.rows import Anchor, Row

SUBSET = ("lm-1e-05-bf16", "lm-1e-05-fp16", "lm-1e-05-fp32", "lm-1e-04-int8")
_ROUNDS = 9
_WORKS = {
    "files": "files, proved and durable",
    "memory": "in memory, nothing proved",
}
# What a peer's child calls them.
_PEER_JOBS = {"files": "apply", "memory": "decode"}

Times = Mapping[str, Mapping[str, Any]]


def time_pair(measured: Measured, room: PeerRoom) -> Times:
    """Wall seconds in the process: of encoding, once, by tool; of applying by work and tool."""
    pair = measured.pair
    names = [name for name in measured.named if measured.peers.get(name, {}).get("bytes")]
    applied: dict[str, dict[str, list[float]]] = {work: {"ours": []} for work in _WORKS}
    with tempfile.TemporaryDirectory(prefix="times-", dir=pair.new.parent) as place:
        bundle = write_bundle(pair, Path(place))
        made = bundle / "ours.delta"
        encode = {"ours": ours.run_job("encode", pair.old, pair.new, made).wall_s}
        for name in names:
            taken = room.job("make", name, bundle)
            if taken["bytes"] is not None:
                encode[name] = taken["wall_s"]
        for _ in range(_ROUNDS):
            for work, times in applied.items():
                times["ours"].append(_ours(work, measured, bundle))
                for name in encode:
                    taken = room.job(_PEER_JOBS[work], name, bundle) if name != "ours" else {}
                    if "wall_s" in taken:
                        times.setdefault(name, []).append(taken["wall_s"])
    return {"encode_s": encode, **{f"{work}_s": times for work, times in applied.items()}}


def _ours(work: str, measured: Measured, bundle: Path) -> float:
    pair, made, rebuilt = measured.pair, bundle / "ours.delta", bundle / "ours.rebuilt"
    if work == "memory":
        return ours.run_job("memory", pair.old, pair.new, made).wall_s
    rebuilt.unlink(missing_ok=True)
    return ours.run_job("apply", pair.old, rebuilt, made).wall_s


def rows_of(measured: Measured, times: Times | None) -> list[Row]:
    """Our time to apply, of that of the peer whose delta is the smallest, by work."""
    return [_row_of(measured, times, work) for work in _WORKS]


def _row_of(measured: Measured, times: Times | None, work: str) -> Row:
    smallest = measured.smallest(measured.named)
    what = f"applying {measured.pair.id} beside the peer with the smallest delta, {_WORKS[work]}"
    samples: list[float | None] = [None]
    anchor = None
    if times is not None and smallest is not None:
        theirs: list[float] = times[f"{work}_s"].get(smallest[0], [])
        if theirs:
            middle = statistics.median(theirs)
            samples = [one / middle for one in times[f"{work}_s"]["ours"]]
            version = str(measured.peers[smallest[0]]["version"])
            anchor = Anchor(
                name=f"{smallest[0]}, seconds", version=version, value=middle, samples=tuple(theirs)
            )
    return figure(
        f"speed.beside.{measured.pair.id}.{work}",
        what,
        samples,
        statistics.median,
        1.0,
        anchor=anchor,
    )
