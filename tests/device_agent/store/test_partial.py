"""Half-done targets: what counts after a kill, a power cut, and damage."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from device_agent.store import Store
from device_agent.store.partial import Partial
from edge_sdk.base import Digest
from tests.support.artifacts import make_artifact, noise
from tests.support.recording_files import RecordingFiles

MIB = 1 << 20
TARGET = make_artifact({"a": noise(2 * MIB + 100, "a"), "b": b"", "c": noise(MIB, "c")})
DELTA = Digest.of(b"delta")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "s")


def partial(store: Store, present: frozenset[int] = frozenset()) -> Partial:
    return Partial(store, TARGET.artifact, TARGET.manifest.files, present)


def fill(one: Partial, chunks: int) -> None:
    """Writes the first chunks as an application does."""
    number = 0
    for file, entry in enumerate(one.entries):
        data = TARGET.files[entry.path]
        for index in range(len(entry.chunks)):
            if number == chunks:
                return
            one.write(file, index * MIB, memoryview(data[index * MIB : (index + 1) * MIB]))
            one.chunk_proved(number)
            number += 1


def test_nothing_was_there(store: Store) -> None:
    """A fresh partial starts at the first chunk."""
    assert partial(store).open() == 0


@pytest.mark.parametrize("chunks", range(5))
def test_a_kill_loses_nothing_that_was_written(store: Store, chunks: int) -> None:
    """No sync, no close: chunks in the page cache are proved again and count."""
    one = partial(store)
    one.open()
    fill(one, chunks)
    again = partial(store)
    assert again.open() == chunks
    again.close()
    one.close()


def test_a_torn_chunk_does_not_count(store: Store) -> None:
    """Bytes beyond the last proved chunk are cut off."""
    one = partial(store)
    one.open()
    fill(one, 1)
    one.write(0, MIB, memoryview(TARGET.files["a"][MIB : MIB + 5000]))
    one.close()
    again = partial(store)
    assert again.open() == 1
    assert again.path(0).stat().st_size == MIB


def test_the_record_comes_after_the_bytes(tmp_path: Path) -> None:
    """A count is appended only once the files are synced."""
    files = RecordingFiles()
    one = partial(Store.create(tmp_path / "s", files=files))
    one.open()
    fill(one, 4)
    files.log.clear()
    one.sync()
    assert files.operations() == [
        *("sync_handle", "sync_handle"),
        *("append", "sync_file", "sync_folder"),
    ]
    one.sync()
    assert len(files.log) == 5
    one.close()


def test_what_a_kill_left_is_synced_before_it_is_recorded(tmp_path: Path) -> None:
    """Chunks found at the next start may be in the page cache only: the record waits for them."""
    files = RecordingFiles()
    store = Store.create(tmp_path / "s", files=files)
    killed = partial(store)
    killed.open()
    fill(killed, 4)
    killed.close()
    files.log.clear()
    one = partial(store)
    assert one.open() == 4
    synced = [names for name, names in files.log if name == "sync_file"]
    assert synced == [("file.0",), ("file.2",), (".chunks.tmp",)]
    files.log.clear()
    assert partial(store).open() == 4
    assert files.log == []


def test_proved_bytes_are_those_of_the_chunks_proved(store: Store) -> None:
    """A chunk at a file's end is as long as what is left of the file."""
    one = partial(store)
    one.open()
    found = [one.proved_bytes]
    for chunk in range(one.chunks_total):
        one.chunk_proved(chunk)
        found.append(one.proved_bytes)
    assert found == [0, MIB, 2 * MIB, 2 * MIB + 100, 3 * MIB + 100]
    one.close()


def test_zeros_after_a_power_cut_are_found(store: Store) -> None:
    """A recorded chunk whose file is shorter than that does not count."""
    one = partial(store)
    one.open()
    fill(one, 3)
    one.sync()
    one.close()
    one.path(0).write_bytes(b"")
    assert partial(store).open() == 0


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 8, b"\xff" * 16])
def test_a_damaged_record_is_passed_over(store: Store, tail: bytes) -> None:
    """Torn or overwritten counts end the record; the bytes themselves are proved again."""
    one = partial(store)
    one.open()
    fill(one, 2)
    one.sync()
    one.close()
    record = one.folder / "chunks"
    record.write_bytes(record.read_bytes() + tail)
    assert partial(store).open() == 2
    record.write_bytes(tail)
    assert partial(store).open() == 2


def test_files_that_are_here_already_are_not_written(store: Store) -> None:
    """A blob of that name stands for the whole file."""
    one = partial(store, frozenset({0}))
    one.open()
    fill(one, 4)
    assert not one.path(0).exists()
    one.close()
    assert partial(store, frozenset({0})).open() == 4


def test_start_over(store: Store) -> None:
    """After damage was found, the chunks before it stay."""
    one = partial(store)
    one.open()
    fill(one, 4)
    one.sync()
    one.start_over(1)
    assert partial(store).open() == 1


def test_prefixes_of_one_delta_at_a_time(store: Store) -> None:
    """The prefix in use is kept, that of another delta goes."""
    one = partial(store)
    one.open()
    one.keep_prefix(DELTA, b"head")
    assert one.prefix(DELTA) == b"head"
    other = Digest.of(b"other")
    one.keep_prefix(other, b"head2")
    assert one.prefix(DELTA) is None
    one.drop_prefix(other)
    assert one.prefix(other) is None
    one.remove()
    assert not one.folder.exists()


def test_after_a_failed_sync_the_bytes_are_written_anew(tmp_path: Path) -> None:
    """The kernel says once that pages were lost and calls them clean: what was not recorded
    is cut off, never synced again and believed."""
    files = RecordingFiles()
    store = Store.create(tmp_path / "s", files=files)
    one = partial(store)
    one.open()
    fill(one, 2)
    files.fail = lambda name, arguments: errno.EIO if name == "sync_handle" else None
    with pytest.raises(OSError, match="EIO"):
        one.sync()
    files.fail = lambda name, arguments: None
    one.sync()
    one.close()
    assert partial(store).open() == 0


def test_what_a_kill_left_and_the_disk_refused_is_written_anew(tmp_path: Path) -> None:
    """The same at a start: chunks that could not be synced do not count at the next one."""
    files = RecordingFiles()
    store = Store.create(tmp_path / "s", files=files)
    killed = partial(store)
    killed.open()
    fill(killed, 2)
    killed.close()
    files.fail = lambda name, arguments: errno.EIO if name == "sync_file" else None
    with pytest.raises(OSError, match="EIO"):
        partial(store).open()
    files.fail = lambda name, arguments: None
    assert partial(store).open() == 0


def test_a_target_of_many_files_needs_few_descriptors(tmp_path: Path) -> None:
    """As many open files as a device may have is no limit to the files of a model."""
    many = make_artifact({f"{number:04}": b"x" for number in range(300)})
    store = Store.create(tmp_path / "s")
    one = Partial(store, many.artifact, many.manifest.files, frozenset())
    one.open()
    before = descriptors()
    for number in range(300):
        one.write(number, 0, memoryview(b"x"))
        one.chunk_proved(number)
    assert descriptors() - before <= 64
    one.sync()
    one.close()
    assert Partial(store, many.artifact, many.manifest.files, frozenset()).open() == 300


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
