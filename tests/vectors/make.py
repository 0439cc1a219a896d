"""Adds the vectors that a folder lacks: ``python -m tests.vectors.make tests/vectors/v1``.

What is there is never written again.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.deltas import encoded, write_folder
from tests.support.every_delta import every_delta
from tests.vectors.cases import Case, cases
from tests.vectors.reading import digests
from tests.vectors.refused import refusals


def write(folder: Path) -> None:
    """All vectors that ``folder`` lacks."""
    for case in cases():
        if not (folder / case.name).exists():
            _add(folder / case.name, case.what, _delta(case), case.source, digests(case.target))
    for made in every_delta():
        if not (folder / f"by-hand-{made.name}").exists():
            what = f"records put together by hand: {made.name}"
            target = digests({"t": made.target})
            _add(folder / f"by-hand-{made.name}", what, made.delta, {"s": made.source}, target)
    for name, what, delta, source in refusals():
        if not (folder / f"refused-{name}").exists():
            _add(folder / f"refused-{name}", what, delta, source, None)


def _delta(case: Case) -> bytes:
    with tempfile.TemporaryDirectory() as work:
        before = None
        if case.source is not None:
            before = write_folder(Path(work) / "source", case.source)
        return encoded(before, write_folder(Path(work) / "target", case.target))


def _add(
    folder: Path,
    what: str,
    delta: bytes,
    source: Mapping[str, bytes] | None,
    target: Mapping[str, str] | None,
) -> None:
    """All or nothing: a folder that is there is whole."""
    half = folder.with_name(f".{folder.name}")
    shutil.rmtree(half, ignore_errors=True)
    files = dict(sorted((source or {}).items()))
    write_folder(half / "source", files)
    half.mkdir(parents=True, exist_ok=True)
    (half / "delta").write_bytes(delta)
    said = {"what": what, "source": list(files), "target": target or {}, "refused": target is None}
    (half / "vector.json").write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
    half.rename(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
