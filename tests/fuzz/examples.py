"""Small artifacts whose deltas are damaged, with the deltas: committed, so that a seed means
the same on every machine. ``make_seeds.py`` wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edge_sdk.delta import FileRef
from tests.support.deltas import file_ref

SEEDS = Path(__file__).parent / "seeds"
EXAMPLES = SEEDS / "examples"


@dataclass(frozen=True, kw_only=True)
class FuzzExample:
    """Files by their paths, in the order of these, and the folder that they lie in."""

    folder: Path
    sources: dict[str, bytes]
    targets: dict[str, bytes]

    @property
    def source_refs(self) -> list[FileRef]:
        return [file_ref(path, data) for path, data in self.sources.items()]

    @property
    def target_refs(self) -> list[FileRef]:
        return [file_ref(path, data) for path, data in self.targets.items()]


@lru_cache(maxsize=1)
def examples() -> tuple[FuzzExample, ...]:
    """All of them; a seed names one by its number."""
    return tuple(
        FuzzExample(
            folder=folder,
            sources=_files(folder / "source"),
            targets=_files(folder / "target"),
        )
        for folder in sorted(EXAMPLES.iterdir(), key=lambda one: int(one.name))
    )


def _files(root: Path) -> dict[str, bytes]:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
