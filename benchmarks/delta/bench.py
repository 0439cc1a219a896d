"""``make bench-delta``: writes build/bench-delta.json and prints the table of targets.

Results on a pair are kept in build/bench-delta/ under the engine's hash and the pair's, so
that a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.delta import generated, large, ours, peers, timing, verdict
from benchmarks.delta.pairs import Pair, given_pairs
from benchmarks.delta.peers import PeerRoom
from benchmarks.delta.verdict import Measured
from benchmarks.rows import Anchor, Row, document, show, write_json
from edge_sdk.base import CHUNK_BYTES, EdgeError
from edge_sdk.base.command import run
from edge_sdk.delta.coder import KERNEL

NAME = "bench-delta"
_WORK = Path("build") / NAME
_LARGE_IDS = ("lm-1e-05-bf16", "lm-1e-05-fp16")
_IDENTICAL_ID = "lm-1e-05-fp32"


class Results:
    """What was measured with this engine, on disk after each step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, Any] = {}
        if path.is_file():
            self._kept = json.loads(path.read_text())

    def get(self, key: str) -> Any:
        return self._kept.get(key)

    def put(self, key: str, value: Any) -> None:
        self._kept[key] = value
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._kept, indent=1))
        part.replace(self._path)

    def rows(self, key: str, work: Callable[[], list[Row]]) -> list[Row]:
        """The rows kept under ``key``, or made by ``work`` and kept."""
        if self.get(key) is None:
            self.put(key, [asdict(row) for row in work()])
        return [_row(one) for one in self.get(key)]


def _row(facts: dict[str, Any]) -> Row:
    anchor = facts["anchor"]
    if anchor:
        anchor = Anchor(**{**anchor, "samples": tuple(anchor["samples"])})
    return Row(**{**facts, "samples": tuple(facts["samples"]), "anchor": anchor})


class Run:
    """One run within its time."""

    def __init__(self, minutes: float, room: PeerRoom, results: Results) -> None:
        self._ends = time.monotonic() + 60 * minutes
        self._room = room
        self._results = results
        self._kept = {**peers.read_kept(_WORK / "peer_sizes.json"), **peers.read_kept()}
        self.failed: list[str] = []

    def left_s(self) -> float:
        return self._ends - time.monotonic()

    @property
    def kept(self) -> dict[str, peers.Record]:
        return self._kept

    def adopt(self, pairs: Sequence[Pair], listed: Path | None) -> None:
        """Takes over the peers' sizes that lie beside the list of the given pairs."""
        sizes = listed.with_name("sizes.json") if listed else None
        if sizes is None or not sizes.is_file():
            return
        given = {one["id"]: one for one in json.loads(sizes.read_text())["pairs"]}
        for pair in pairs:
            if pair.id in given:
                peers.adopt(pair, given[pair.id], self._kept)

    def measure_ours(self, pair: Pair) -> None:
        if self._results.get(pair.key) is not None or self.left_s() < 0:
            return
        try:
            measured = ours.measure(pair)
        except (RuntimeError, EdgeError) as error:
            self.failed.append(f"{pair.id}: {error}")
            click.echo(f"{pair.id}: FAILED: {error}", err=True)
            return
        self._results.put(pair.key, measured)
        click.echo(
            f"{pair.id}: {measured['bytes']:,} of {pair.new_bytes:,} bytes, "
            f"encode {measured['encode_wall_s']:.1f} s, apply {measured['apply_wall_s']:.2f} s",
            err=True,
        )

    def measure_peers(self, pair: Pair, *, anew: bool) -> None:
        names = peers.ALL if pair.generated else verdict.LISTED
        known = {} if anew else self._kept.get(pair.key, {}).get("peers", {})
        wanted = tuple(name for name in names if name not in known)
        if not wanted or self.left_s() < 0:
            return
        if self._room.measure(pair, self._kept, wanted):
            click.echo(f"{pair.id}: measured {', '.join(wanted)}", err=True)
            peers.write_kept(self._kept, _WORK / "peer_sizes.json")

    def measured(self, pair: Pair) -> Measured:
        record = self._kept.get(pair.key, {})
        ours_ = self._results.get(pair.key)
        return Measured(pair=pair, ours=ours_, peers=record.get("peers", {}))

    def times(self, one: Measured) -> timing.Times | None:
        """In turns with the peers, where those are installed."""
        key = f"turns.{one.pair.id}"
        if self._results.get(key) is None:
            if self.left_s() < 60 or any(self._room.version(name) is None for name in one.named):
                return None
            click.echo(f"Timing {one.pair.id} in turns ...", err=True)
            self._results.put(key, timing.time_pair(one, self._room))
        times: timing.Times = self._results.get(key)
        return times

    def rows(self, what: str, needs_s: float, work: Callable[[], list[Row]]) -> list[Row]:
        """Rows that are kept, or made where there is still time for them."""
        if self._results.get(what) is None:
            if self.left_s() < needs_s:
                click.echo(f"no time left for {what}", err=True)
                return []
            click.echo(f"Measuring {what} ...", err=True)
        return self._results.rows(what, work)


def _identical(pair: Pair, folder: Path) -> list[Row]:
    """Of two files that are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    made, copy = folder / "delta", folder / f"copy{pair.new.suffix}"
    shutil.copyfile(pair.new, copy)
    ours.run_job("encode", copy, pair.new, made)
    chunks = -(-pair.new_bytes // CHUNK_BYTES)
    beyond = float(made.stat().st_size - 2 * chunks)
    shutil.rmtree(folder)
    what = f"two identical files of {chunks} chunks: bytes beyond 2 per chunk"
    return [verdict.figure("size.identical", what, [beyond], max, 256, unit="bytes")]


def _large_rows(job: Run, pairs: Sequence[Pair]) -> list[Row]:
    chosen = [pair for pair in pairs if pair.id in _LARGE_IDS]
    folder = _WORK / "large"
    rows = job.rows("speed", 120, lambda: large.speed_rows(chosen, folder))
    rows = rows or [_unmeasured("speed", "speed on files of 256 MiB")]
    for size_bytes in large.MEMORY_BYTES:
        name = f"memory.{size_bytes >> 30}"
        found = job.rows(
            name,
            90 * (size_bytes >> 30),
            lambda size=size_bytes: large.memory_rows(chosen[0], folder, size),  # type: ignore[misc]
        )
        rows += found or [_unmeasured(name, f"memory, a {size_bytes >> 30} GiB model")]
    return rows


def _unmeasured(identity: str, what: str) -> Row:
    """A row that time did not allow: shown, and not met."""
    return verdict.figure(identity, what, [None], max, 0, unit="")


def _beside_rows(job: Run, measured: Sequence[Measured]) -> list[Row]:
    chosen = [one for one in measured if one.pair.id in timing.SUBSET]
    return [row for one in chosen for row in timing.rows_of(one, job.times(one))]


@click.command()
@click.option("--pairs", "folder", type=click.Path(path_type=Path), default="build/pairs")
@click.option("--list", "listed", type=click.Path(path_type=Path), help="Rows of these pairs.")
@click.option("--peers", "anew", is_flag=True, help="Measure all peers anew and keep the sizes.")
@click.option("--peers-folder", type=click.Path(path_type=Path), default="build/peers")
@click.option("--minutes", default=45.0, show_default=True)
@click.option("--only", multiple=True, help="Pairs with this in their id; nothing is written.")
@click.option("--small", is_flag=True, help="Without the files of 256 MiB and more.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli(
    *,
    folder: Path,
    listed: Path | None,
    anew: bool,
    peers_folder: Path,
    minutes: float,
    only: Sequence[str],
    small: bool,
) -> None:
    """Measures our deltas and the peers' on given pairs and on pairs made here.

    A given pair is FOLDER/ID/old.* and new.*; its row stands in a list like pairs.json
    (--list, or FOLDER/pairs.json), with the peers' sizes in a sizes.json beside it.

    Example: python -m benchmarks.delta.bench --pairs build/pairs --list pairs.json
    """
    if listed is None and (folder / "pairs.json").is_file():
        listed = folder / "pairs.json"
    version = ours.engine_version()
    job = Run(minutes, PeerRoom(peers_folder), Results(_WORK / f"{version}.json"))
    made = generated.make(_WORK / "generated")
    given = given_pairs(folder, listed, job.kept)
    if not given:
        click.echo(f"no pairs in {folder}: only those made here are measured", err=True)
    job.adopt(given, listed)
    pairs = [one for one in [*made, *given] if not only or any(part in one.id for part in only)]
    for pair in pairs:
        job.measure_ours(pair)
    rows: list[Row] = []
    if not small and not only:
        rows += _large_rows(job, made)
    for pair in pairs:
        job.measure_peers(pair, anew=anew)
    if anew and not only:
        peers.write_kept(job.kept)
    _report(job, pairs, rows, made, write=not only)


def _report(
    job: Run, pairs: Sequence[Pair], large_rows: list[Row], made: Sequence[Pair], *, write: bool
) -> None:
    measured = [job.measured(pair) for pair in pairs]
    targets = verdict.size_rows(measured) + verdict.published_rows(measured)
    targets += verdict.bound_rows(measured)
    same = next(pair for pair in made if pair.id == _IDENTICAL_ID)
    targets += job.rows("identical", 0, lambda: _identical(same, _WORK / "identical"))
    targets += large_rows
    targets += _beside_rows(job, measured)
    rows = targets + verdict.pair_rows(measured)
    if write:
        write_json(Path("build") / f"{NAME}.json", {**document(NAME, rows), "kernel": KERNEL})
    show("Each pair against its smallest peer", rows[len(targets) :])
    show("Targets", targets)
    missed = [one.id for one in targets if one.met is not True]
    if missed or job.failed:
        raise verdict.MissedError("; ".join([f"not met: {', '.join(missed)}", *job.failed]))


def main() -> None:
    run(cli, NAME)


if __name__ == "__main__":
    main()
