"""Times beside the peers', in turns: on a named subset, since the slow ones take their time."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.delta import ours
from benchmarks.delta.peers import PeerRoom, write_bundle
from benchmarks.delta.verdict import Measured, figure
from benchmarks.rows import Anchor, Row

SUBSET = ("lm-1e-05-bf16", "lm-1e-05-fp16", "lm-1e-05-fp32", "lm-1e-04-int8")
_ROUNDS = 5


def time_pair(measured: Measured, room: PeerRoom) -> dict[str, Any]:
    """Wall seconds in the process of encoding (once) and applying (in turns), by tool."""
    pair = measured.pair
    names = [name for name in measured.named if measured.peers.get(name, {}).get("bytes")]
    with tempfile.TemporaryDirectory(prefix="times-", dir=pair.new.parent) as place:
        bundle = write_bundle(pair, Path(place))
        made, rebuilt = bundle / "ours.delta", bundle / "ours.rebuilt"
        encode = {"ours": ours.run_job("encode", pair.old, pair.new, made).wall_s}
        apply: dict[str, list[float]] = {"ours": []}
        for name in names:
            taken = room.job("make", name, bundle)
            if taken["bytes"] is not None:
                encode[name], apply[name] = taken["wall_s"], []
        for _ in range(_ROUNDS):
            rebuilt.unlink(missing_ok=True)
            apply["ours"].append(ours.run_job("apply", pair.old, rebuilt, made).wall_s)
            for name in encode:
                taken = room.job("apply", name, bundle) if name != "ours" else {}
                if "wall_s" in taken:
                    apply[name].append(taken["wall_s"])
    return {"encode_s": encode, "apply_s": apply}


def row_of(measured: Measured, times: dict[str, Any] | None) -> Row:
    """Our time to apply, of that of the peer whose delta is the smallest."""
    smallest = measured.smallest(measured.named)
    what = f"applying {measured.pair.id} beside the peer with the smallest delta"
    samples: list[float | None] = [None]
    anchor = None
    if times is not None and smallest is not None:
        theirs: list[float] = times["apply_s"].get(smallest[0], [])
        if theirs:
            middle = statistics.median(theirs)
            samples = [one / middle for one in times["apply_s"]["ours"]]
            version = str(measured.peers[smallest[0]]["version"])
            anchor = Anchor(
                name=f"{smallest[0]}, seconds", version=version, value=middle, samples=tuple(theirs)
            )
    return figure(
        f"speed.beside.{measured.pair.id}", what, samples, statistics.median, 1.0, anchor=anchor
    )
