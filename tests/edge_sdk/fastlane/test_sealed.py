"""Memory from a peer is looked at before it is touched."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_sdk.base import FormatError
from edge_sdk.fastlane import map_sealed
from edge_sdk.tensor_pool import TensorPool

SIZE = 8192
GOOD = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@contextmanager
def memory(seals: int, size: int = SIZE) -> Iterator[int]:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


def test_what_the_pool_gives_is_mapped() -> None:
    """A sealed slab of the pool is accepted, and both ends see the same bytes."""
    slab = TensorPool(budget_bytes=SIZE).acquire_sealed(SIZE)
    with map_sealed(slab.descriptor, SIZE) as mapped:
        mapped[:3] = b"abc"
        assert slab.memory[:3] == b"abc"
    slab.release()


@pytest.mark.parametrize(
    "seals",
    [
        0,
        GOOD & ~fcntl.F_SEAL_SHRINK,
        GOOD & ~fcntl.F_SEAL_GROW,
        GOOD & ~fcntl.F_SEAL_SEAL,
        GOOD | fcntl.F_SEAL_WRITE,
    ],
)
def test_other_seals_are_refused(seals: int) -> None:
    """Memory that could shrink, grow, be sealed later, or not be written."""
    with memory(seals) as descriptor, pytest.raises(FormatError, match="seals"):
        map_sealed(descriptor, SIZE)


@pytest.mark.parametrize("announced", [SIZE - 1, SIZE + 1, 0])
def test_another_size_is_refused(announced: int) -> None:
    """Shorter memory than announced would be SIGBUS at the first touch."""
    with memory(GOOD) as descriptor, pytest.raises(FormatError, match="announced"):
        map_sealed(descriptor, announced)


def test_memory_of_no_size_is_refused() -> None:
    """Nothing can be mapped of nothing."""
    with memory(GOOD, size=0) as descriptor, pytest.raises(FormatError):
        map_sealed(descriptor, 0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file on disk, a pipe and a folder are no shared memory."""
    (tmp_path / "file").write_bytes(bytes(SIZE))
    with (tmp_path / "file").open("rb") as file, pytest.raises(FormatError, match="sealed"):
        map_sealed(file.fileno(), SIZE)
    folder = os.open(tmp_path, os.O_RDONLY)
    ends = os.pipe()
    for descriptor in (folder, *ends):
        with pytest.raises(FormatError, match="announced"):
            map_sealed(descriptor, SIZE)
        os.close(descriptor)


def test_memory_that_is_read_only_is_refused() -> None:
    """A descriptor without the right to write cannot be a slot."""
    with memory(GOOD) as descriptor:
        readable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
        with pytest.raises(FormatError, match="mapped"):
            map_sealed(readable, SIZE)
        os.close(readable)
