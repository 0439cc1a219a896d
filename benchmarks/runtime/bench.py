"""``make bench-runtime``: the runtime beside its anchors, one family of rows after the other.

What a family measured is kept in build/bench-runtime/, under a hash of the sources, so that a
run that was cut short goes on with ``--resume``.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import click

from benchmarks.rows import Anchor, Row, document, show, write_json
from benchmarks.runtime import (
    batching,
    eight,
    flight,
    lane,
    peers,
    pool,
    priority,
    stock,
    swap,
    targets,
    triton,
    update,
)
from edge_sdk.base import EdgeError
from edge_sdk.base.command import run

NAME = "bench-runtime"
ROOT = Path(__file__).parents[2]
_WORK = Path("build") / NAME
_TRIES = 2  # a port that another program took meanwhile is no reason to measure nothing
_SOURCES = ("edge_sdk", "device_agent", "benchmarks/runtime", "csrc")


class Family(Protocol):
    """Measures its rows in a folder of its own."""

    def __call__(self, folder: Path, *, rounds: int) -> list[Row]: ...


FAMILIES: dict[str, Family] = {
    "lane": lane.measure,
    "stock": stock.measure,
    "eight": eight.measure,
    "flight": flight.measure,
    "swap": swap.measure,
    "priority": priority.measure,
    "batching": batching.measure,
    "pool": pool.measure,
    "update": update.measure,
}


class MissedError(EdgeError):
    """A target was missed, or not measured."""

    exit_code = 1


class Kept:
    """Rows by family, on disk after each."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self._rows: dict[str, Any] = {}
        if resume and path.is_file():
            self._rows = json.loads(path.read_text())

    def __contains__(self, family: str) -> bool:
        return family in self._rows

    def put(self, family: str, rows: Sequence[Row]) -> None:
        self._rows[family] = [asdict(one) for one in rows]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._rows))
        part.replace(self._path)

    def rows(self) -> list[Row]:
        return [_row(one) for rows in self._rows.values() for one in rows]


def _row(facts: dict[str, Any]) -> Row:
    beside = facts["anchor"]
    if beside:
        beside = Anchor(**{**beside, "samples": tuple(beside["samples"])})
    return Row(**{**facts, "samples": tuple(facts["samples"]), "anchor": beside})


def sources_hash() -> str:
    """Of the code that is measured and of what measures it."""
    made = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".c", ".h"}:
                made.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return made.hexdigest()[:16]


@click.command()
@click.option("--only", help="Families with a comma between; nothing is written to build/.")
@click.option("--rounds", default=5, show_default=True, help="Of each family.")
@click.option("--resume", is_flag=True, help="Keep what a run of the same sources measured.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli(only: str | None, rounds: int, *, resume: bool) -> None:
    """Measures the runtime's rows and writes build/bench-runtime.json.

    Example: python -m benchmarks.runtime.bench --only lane,stock --rounds 3
    """
    chosen = only.split(",") if only else list(FAMILIES)
    unknown = sorted(set(chosen) - set(FAMILIES))
    if unknown:
        raise click.BadParameter(f"{unknown}; there are {sorted(FAMILIES)}", param_hint="--only")
    if not triton.is_installed():
        click.echo("Triton is not installed (benchmarks/runtime/install_peers.sh)", err=True)
    kept = Kept(_WORK / f"{sources_hash()}.json", resume=resume)
    failed = measure({name: FAMILIES[name] for name in chosen}, kept, rounds=rounds)
    _report([*kept.rows(), *peers.recorded()], failed, chosen, write=only is None)


def measure(families: dict[str, Family], kept: Kept, *, rounds: int) -> list[str]:
    """What failed. One that fails leaves its rows unmeasured, and the others go on."""
    failed = []
    for number, (name, family) in enumerate(families.items(), 1):
        if name in kept:
            click.echo(f"{name}: kept", err=True)
            continue
        click.echo(f"{number}/{len(families)} {name} ...", err=True)
        began_s = time.monotonic()
        for _ in range(_TRIES):
            problem = _problem(name, family, kept, rounds=rounds)
            if not problem:
                break
        else:
            failed.append(problem)
        click.echo(f"{name}: {time.monotonic() - began_s:.0f} s", err=True)
    return failed


def _problem(name: str, family: Family, kept: Kept, *, rounds: int) -> str:
    """Measures a family and keeps its rows. What went wrong; empty: nothing."""
    try:
        with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
            kept.put(name, family(Path(folder), rounds=rounds))
    except Exception as error:  # noqa: BLE001 - minutes of others' rows must not go with it
        traceback.print_exc()
        return f"{name}: {error}"
    return ""


def _report(rows: list[Row], failed: list[str], chosen: list[str], *, write: bool) -> None:
    aimed = {one.id: one for one in targets.TARGETS}
    every = targets.complete(rows)
    if write:
        write_json(Path("build") / f"{NAME}.json", document(NAME, every))
    else:
        every = [one for one in every if one.id not in aimed or aimed[one.id].family in chosen]
    show("Without a target", [one for one in every if one.target is None])
    judged = [one for one in every if one.target is not None]
    show("Targets", judged)
    missed = [one.id for one in judged if one.met is not True]
    if missed or failed:
        raise MissedError("; ".join([f"not met: {', '.join(missed)}", *failed]))


def main() -> None:
    run(cli, NAME)


if __name__ == "__main__":
    main()
