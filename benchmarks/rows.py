"""The form of ``build/<name>.json``: rows with their samples, on which machine, at which commit."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edge_sdk.base.command import print_table

Direction = Literal["<=", ">="]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What a row is compared with, measured in the same run."""

    name: str
    version: str
    value: float
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure: the median of its samples, with the target where it has one."""

    id: str
    what: str
    value: float | None
    unit: str
    direction: Direction
    target: float | None
    samples: tuple[float, ...]
    anchor: Anchor | None = None

    @property
    def met(self) -> bool | None:
        """None where nothing was measured or nothing was aimed at: never the same as met."""
        if self.value is None or self.target is None:
            return None
        return self.value <= self.target if self.direction == "<=" else self.value >= self.target


def row(
    identity: str,
    what: str,
    samples: Sequence[float],
    unit: str,
    direction: Direction,
    *,
    target: float | None = None,
    anchor: Anchor | None = None,
) -> Row:
    """A row whose value is the median of ``samples``; no samples, no value."""
    return Row(
        id=identity,
        what=what,
        value=statistics.median(samples) if samples else None,
        unit=unit,
        direction=direction,
        target=target,
        samples=tuple(samples),
        anchor=anchor,
    )


def anchor(name: str, version: str, samples: Sequence[float]) -> Anchor:
    return Anchor(
        name=name, version=version, value=statistics.median(samples), samples=tuple(samples)
    )


def document(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "name": name,
        "commit": commit(),
        "machine": machine(),
        "rows": [{**asdict(one), "met": one.met} for one in rows],
    }


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def show(title: str, rows: Sequence[Row]) -> None:
    """The rows as a table for people, on standard output."""
    cells = [
        [
            one.what,
            _number(one.value),
            one.unit,
            f"{one.direction} {_number(one.target)}" if one.target is not None else "",
            {True: "met", False: "MISSED", None: ""}[one.met],
            f"{one.anchor.name} {_number(one.anchor.value)}" if one.anchor else "",
        ]
        for one in rows
    ]
    print_table(["what", "value", "unit", "target", "", "beside it"], cells, title=title)


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "os": platform.platform(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The commit of this checkout, with ``+changes`` where files differ from it."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+changes" if changes else head
