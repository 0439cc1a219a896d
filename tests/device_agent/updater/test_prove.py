"""What is read back before it gets its name."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

import pytest

from device_agent.store import Store
from device_agent.store.filesystem import FileSystem
from device_agent.store.partial import Partial
from device_agent.updater.prove import read_back
from tests.support.artifacts import make_artifact, noise

MIB = 1 << 20
TARGET = make_artifact({"a": noise(2 * MIB, "a"), "b": noise(MIB + 9, "b"), "z": b""})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "s")


def filled(store: Store) -> Partial:
    """Every chunk written and proved."""
    one = Partial(store, TARGET.artifact, TARGET.manifest.files, frozenset())
    one.open()
    for number, entry in enumerate(one.entries):
        if entry.size_bytes:
            one.write(number, 0, memoryview(TARGET.files[entry.path]))
    one.chunk_proved(one.chunks_total - 1)
    one.sync()
    one.close()
    return one


def test_what_was_written_is_read_back(store: Store) -> None:
    """Nothing changed: every chunk stands."""
    assert read_back(filled(store), store) == 4


@pytest.mark.parametrize(("file", "good"), [(0, 1), (1, 3)])
def test_a_file_longer_than_declared_is_not_accepted(store: Store, file: int, good: int) -> None:
    """Behind a last chunk that is full or not: it counts as bad, and is made anew."""
    one = filled(store)
    with one.path(file).open("ab") as stream:
        stream.write(b"x")
    assert read_back(one, store) == good
    one.start_over(good)
    assert one.path(file).stat().st_size == MIB


def test_an_empty_file_is_placed_empty(store: Store) -> None:
    """It has no chunk that could tell; whatever lies in its place is overwritten."""
    one = filled(store)
    one.path(2).write_bytes(b"x")
    assert read_back(one, store) == 4
    one.place()
    store.artifacts.put(TARGET.artifact, TARGET.document)
    assert store.rotten_files(TARGET.artifact) == ()


@pytest.mark.parametrize(("offset", "good"), [(0, 0), (2 * MIB - 1, 1)])
def test_a_changed_byte_ends_the_count(store: Store, offset: int, good: int) -> None:
    """Only the chunks before it stand."""
    one = filled(store)
    with one.path(0).open("r+b") as stream:
        stream.seek(offset)
        stream.write(bytes([TARGET.files["a"][offset] ^ 1]))
    assert read_back(one, store) == good


def test_a_file_that_its_medium_refuses_is_made_anew(tmp_path: Path) -> None:
    """Its chunks do not stand; where only descriptors are missing, nothing is said of them."""

    class Refusing(FileSystem):
        number = errno.EIO

        def open_read(self, path: Path) -> BinaryIO:
            if path.name == "file.1":
                raise OSError(self.number, errno.errorcode[self.number], str(path))
            return super().open_read(path)

    files = Refusing()
    store = Store.create(tmp_path / "s", files=files)
    files.number = errno.ENOENT
    one = filled(store)
    files.number = errno.EIO
    assert read_back(one, store) == 2
    files.number = errno.EMFILE
    with pytest.raises(OSError, match="EMFILE"):
        read_back(one, store)
