"""A pair is an old and a new file; it is known by its id and, across machines, by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# The rows of the table of targets. A pair without one counts in "every pair" only.
GIVEN_ROWS = ("fine-tune", "retrained", "derived", "structural", "mixed")


@dataclass(frozen=True, kw_only=True)  # no slots: cached_property needs a dictionary
class Pair:
    """``facts`` are those of a generated pair: dtype, rate, network, weights, changed."""

    id: str
    row: str
    old: Path
    new: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def generated(self) -> bool:
        return bool(self.facts)

    @cached_property
    def key(self) -> str:
        """The pair's hash: what a size measured elsewhere is looked up by."""
        return f"{sha256(self.old)[:16]}-{sha256(self.new)[:16]}"

    @property
    def new_bytes(self) -> int:
        return self.new.stat().st_size


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def given_pairs(folder: Path, listed: Path | None, known: Mapping[str, Any]) -> list[Pair]:
    """The pairs ``folder/ID/old.*`` and ``new.*``, with their rows.

    A row comes from the list (``pairs.json``), or from what is ``known`` by the pair's hash.
    """
    rows = {}
    if listed is not None:
        rows = {one["id"]: one.get("row") for one in json.loads(listed.read_text())["pairs"]}
    found = []
    for identity, old, new in _files(folder):
        pair = Pair(id=identity, row=rows.get(identity) or "", old=old, new=new)
        if not pair.row:
            row = known.get(pair.key, {}).get("row", "")
            pair = Pair(id=identity, row=row, old=old, new=new)
        found.append(pair)
    return sorted(found, key=lambda pair: (pair.row not in GIVEN_ROWS[:3], pair.new_bytes))


def _files(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        old, new = sorted(place.glob("old.*")), sorted(place.glob("new.*"))
        if old and new:
            yield place.name, old[0], new[0]
