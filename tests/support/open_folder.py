"""A folder that other users of this machine can enter: those of pytest are their owner's alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """Gone after the block, with what is in it."""
    with tempfile.TemporaryDirectory(prefix="edge-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
