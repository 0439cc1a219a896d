"""What is fed with hostile deltas in files: ``apply``, which makes a target or leaves all as it was.

As in ``delta_targets.py``.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from edge_sdk.base import EdgeError, ResourceError
from edge_sdk.delta import apply
from edge_sdk.delta.container import parse_prefix
from tests.fuzz.delta_targets import check_files, example_of
from tests.support.deltas import MEMORY_LIMIT_BYTES, prefix_of, resealed, write_folder

_RESEALED, _FOLDER_BEFORE, _FILE_BEFORE, _REPLACE, _SINGLE_SOURCE, _LITTLE_MEMORY = (
    1 << bit for bit in range(6)
)
_LITTLE_BYTES = 3 << 20
_TARGET_BYTES_MAX = 1 << 20
_BEFORE = {"kept/as": b"it was", "model": b"before"}


def applied(data: bytes) -> None:
    """A whole delta behind two bytes: its example, and what stands where the target is made."""
    example, way, delta = example_of(data), data[1] if len(data) > 1 else 0, data[2:]
    if way & _RESEALED:
        with suppress(EdgeError, IndexError):
            delta = resealed(delta)
    root = _root()
    (root / "delta").write_bytes(delta)
    _prepare(root / "target", way)
    before = _found(root)
    _refuse_large(delta)
    source = example.folder / "source"
    if way & _SINGLE_SOURCE:
        source = source / next(iter(example.sources), "none")
    try:
        made = apply(
            source if example.sources else None,
            root / "delta",
            root / "target",
            replace=bool(way & _REPLACE),
            memory_limit_bytes=_LITTLE_BYTES if way & _LITTLE_MEMORY else MEMORY_LIMIT_BYTES,
        )
    except EdgeError:
        assert _found(root) == before, "an error that leaves something behind"
        raise
    assert way & _REPLACE or "target" not in {path.split("/")[0] for path in before}
    after = _found(root)
    assert after.pop("delta") == delta
    names = [f"target/{one.path}" for one in made.files]
    if (root / "target").is_file():
        names = ["target"]
    check_files(made.files, [after.pop(name) for name in names], example)
    assert not after, "more than the target"


def _prepare(target: Path, way: int) -> None:
    """Removes the target of the run before, and puts what this one finds."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if way & _FOLDER_BEFORE:
        write_folder(target, _BEFORE)
    elif way & _FILE_BEFORE:
        target.write_bytes(b"before")


def _refuse_large(delta: bytes) -> None:
    """A target that nobody waits for. Raises: DeltaError, ResourceError."""
    if parse_prefix(prefix_of(delta)).target_bytes > _TARGET_BYTES_MAX:
        raise ResourceError("the target is larger than what is kept here")


def _found(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Lives as long as the process, in memory where the system has such a folder."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)


def _root() -> Path:
    return Path(_folder().name)
