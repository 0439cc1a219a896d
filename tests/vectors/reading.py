"""Vectors as they lie on disk: a folder each, with a delta, its source and what it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Vector:
    """A delta, its source files in their order, and what it makes; nothing where it is refused."""

    name: str
    what: str
    delta: bytes
    sources: Sequence[bytes]
    targets: Mapping[str, str]  # path to SHA-256
    refused: bool


def vectors(folder: Path) -> list[Vector]:
    """All in a folder, by name."""
    return [_read(path.parent) for path in sorted(folder.glob("*/vector.json"))]


def _read(folder: Path) -> Vector:
    said = json.loads((folder / "vector.json").read_text())
    return Vector(
        name=folder.name,
        what=said["what"],
        delta=(folder / "delta").read_bytes(),
        sources=[(folder / "source" / path).read_bytes() for path in said["source"]],
        targets=said["target"],
        refused=said["refused"],
    )


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
