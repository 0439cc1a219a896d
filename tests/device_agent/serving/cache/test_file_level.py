"""The bounded file: what it gives back, and what it never does."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.serving.cache import FileLevel, RequestKey, ResponseCache, keep, remove_others
from device_agent.serving.cache.file_level import (
    _RECORD,
    _RECORD_MAGIC,
    _RECORDS_BEGIN,
    _check,
    _short_check,
)
from device_agent.serving.cache.record import encode_record
from edge_sdk.base import Digest
from tests.support.processes import wait_for

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
FILE_BYTES = 64 << 10


def key_of(number: int, artifact: Digest = ONE, extra: bytes = b"") -> RequestKey:
    data = number.to_bytes(8, "little") + extra
    return RequestKey(artifact, ("y",), [("x", "uint8", (len(data),), data)])


def put(level: FileLevel, number: int, size: int = 8, extra: bytes = b"") -> None:
    level.offer(key_of(number, extra=extra), keep({"y": np.full(size, number, np.int32)}))
    settle(level)


def got(level: FileLevel, number: int, artifact: Digest = ONE, extra: bytes = b"") -> object:
    kept = level.get(key_of(number, artifact, extra))
    if kept is None:
        return None
    values = set(kept.outputs["y"].tolist())
    assert values == {number}, "a wrong answer"
    return number


def settle(level: FileLevel) -> None:
    """Waits until everything asked for so far is done."""
    done = threading.Event()
    level._later(done.set)
    assert done.wait(30)


@contextmanager
def opened(
    path: Path,
    artifact: Digest = ONE,
    runs_on: str = "cpu",
    *,
    file_bytes: int = FILE_BYTES,
    room_bytes: Callable[[], int] = lambda: 1 << 30,
) -> Iterator[FileLevel]:
    level = FileLevel(path, file_bytes, room_bytes=room_bytes)
    level.serve(artifact, runs_on)
    settle(level)
    try:
        yield level
    finally:
        level.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "m.responses"


def test_it_outlives_a_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process finds every answer for the same artifact on the same engine, goes on
    behind them, and nothing was synced; nobody else may read the file."""
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("synced"))
    with opened(path) as level:
        for number in range(5):
            put(level, number)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == FILE_BYTES
    with opened(path) as level:
        assert [got(level, number) for number in range(6)] == [0, 1, 2, 3, 4, None]
        put(level, 5)
    with opened(path) as level:
        assert [got(level, number) for number in range(6)] == list(range(6))


@pytest.mark.parametrize(
    "change", [{"artifact": TWO}, {"runs_on": "other"}, {"file_bytes": FILE_BYTES * 2}]
)
def test_another_artifact_engine_or_size_begins_anew(path: Path, change: dict[str, object]) -> None:
    """Nothing of before is found, not even when the first comes back: its key is gone."""
    with opened(path) as level:
        put(level, 1)
    with opened(path, **change) as level:  # type: ignore[arg-type]
        assert got(level, 1, change.get("artifact", ONE)) is None  # type: ignore[arg-type]
        assert level.size_bytes == path.stat().st_size == change.get("file_bytes", FILE_BYTES)
    with opened(path) as level:
        assert got(level, 1) is None


def test_a_switch_forgets_at_once(path: Path) -> None:
    """From the call on, before the thread has done anything; what waited to be written for the
    one before is not written."""
    with opened(path) as level:
        put(level, 1)
        stuck, go = threading.Event(), threading.Event()
        level._later(lambda: (stuck.set(), go.wait(30))[0])
        assert stuck.wait(30)
        level.offer(key_of(2), keep({"y": np.full(1, 2, np.int32)}))
        level.serve(TWO, "cpu")
        assert got(level, 1) is None
        go.set()
        settle(level)
        assert got(level, 2) is None
        assert got(level, 2, TWO) is None
        put(level, 3)  # its run ended just after the switch
        assert got(level, 3, TWO) is None
        assert got(level, 3) is None
        level.offer(key_of(4, TWO), keep({"y": np.full(1, 4, np.int32)}))
        settle(level)
        assert got(level, 4, TWO) == 4
        assert got(level, 4) is None


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=80),
    again=st.integers(0, 79),
)
def test_the_oldest_go_first(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], again: int
) -> None:
    """After any writes, an answer is found or not, never wrong; what was found is the newest in
    a row, within the size of the file, and a restart finds the same."""
    path = tmp_path_factory.mktemp("ring") / "m.responses"
    with opened(path) as level:
        for number, size in enumerate(sizes):
            level.offer(key_of(number), keep({"y": np.full(size, number, np.int32)}))
            if number % 16 == 15 or number == again:
                settle(level)
        settle(level)
        found = [
            number for number, size in enumerate(sizes) if size and got(level, number) == number
        ]
        fits = [number for number, size in enumerate(sizes) if size]
        assert found == fits[len(fits) - len(found) :]
        assert len(level._places) == sum(map(len, level._by_hash.values()))
        spans = sorted((place.offset, place.end) for place in level._places)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        assert not spans or spans[-1][1] <= FILE_BYTES
        if sum(size * 4 + 300 for size in sizes) < FILE_BYTES - _RECORDS_BEGIN:
            assert found == fits
    assert path.stat().st_size == FILE_BYTES
    with opened(path) as level:
        assert [number for number in fits if got(level, number) == number] == found


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damage_is_never_an_answer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes changed, zeroed or cut off anywhere, while it is open or between two processes: an
    answer is right or there is none."""
    path = tmp_path_factory.mktemp("damage") / "m.responses"
    used = _RECORDS_BEGIN + 20 * 512
    with opened(path) as level:
        for number in range(20):
            level.offer(key_of(number), keep({"y": np.full(64, number, np.int32)}))
        settle(level)
        with path.open("r+b") as file:
            for _ in range(data.draw(st.integers(1, 6))):
                file.seek(data.draw(st.integers(0, used) | st.integers(0, 100)))
                file.write(data.draw(st.binary(min_size=1, max_size=600)))
            if data.draw(st.booleans()):
                file.truncate(data.draw(st.integers(0, used)))
        for number in range(20):
            assert got(level, number) in (number, None)
    with opened(path) as level:
        for number in range(20):
            assert got(level, number) in (number, None)
        put(level, 50)
        assert got(level, 50) == 50


def test_a_record_in_an_input_is_not_taken_for_ours(path: Path) -> None:
    """An application that knows the format sends a record as its input; left as the rest of an
    overwritten one, it would lie where records are looked for."""
    with opened(path) as level:
        put(level, 7)
        place = level._places[0]
    record = path.read_bytes()[place.offset : place.end]
    with opened(path) as level:
        level._position = FILE_BYTES // 2
        put(level, 1, extra=(b"\0" * 64 + record) * 20)
        inside = level._places[-1]
    with path.open("r+b") as file:
        file.seek(inside.offset)
        file.write(bytes(64))  # its head is gone
        lies = path.read_bytes().find(_RECORD_MAGIC, inside.offset)
        aligned = path.read_bytes()[lies : inside.end][: inside.length // 2]
        file.seek(FILE_BYTES // 4)
        file.write(aligned)  # and a copy of it at a place where it is looked for
    with opened(path) as level:
        assert [place.number for place in level._places] == [0]
        assert got(level, 7) == 7


def test_a_record_needs_the_key_of_the_file(path: Path) -> None:
    """Right in every other way and at its own place, but made by somebody who cannot read the
    header: it is passed over; made with the key, the same one is found."""
    body = encode_record(key_of(9), keep({"y": np.full(4, 9, np.int32)}))
    assert body is not None
    offset = FILE_BYTES // 2
    for knows_the_key in (False, True):
        with opened(path) as level:
            assert level._opened is not None
            secret = level._opened.secret if knows_the_key else bytes(32)
        head = _RECORD.pack(
            _RECORD_MAGIC,
            len(body),
            5,
            _short_check(secret, offset, 5, len(body)),
            _check(secret, offset, 5, body),
        )
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(head + body)
        with opened(path) as level:
            assert got(level, 9) == (9 if knows_the_key else None)


def test_look_ups_beside_writing(path: Path) -> None:
    """While the ring goes round, every look-up gives the right answer or none."""
    with opened(path) as level:
        over = threading.Event()
        wrong: list[int] = []
        hits: list[int] = []

        def look() -> None:
            while not over.is_set():
                for number in range(60):
                    kept = level.get(key_of(number))
                    if kept is not None:
                        found = set(kept.outputs["y"].tolist())
                        (hits if found == {number} else wrong).append(number)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(600):
            level.offer(key_of(turn % 60), keep({"y": np.full(500 + turn, turn % 60, np.int32)}))
            if turn % 8 == 7:
                settle(level)
        over.set()
        for thread in threads:
            thread.join(timeout=30)
        assert wrong == []
        assert hits


def test_too_large_an_answer_is_not_written(path: Path) -> None:
    """One that would push out all the others stays in memory only."""
    with opened(path) as level:
        put(level, 1)
        put(level, 2, size=FILE_BYTES // 8)
        assert got(level, 1) == 1
        assert got(level, 2) is None


def test_without_room_there_is_no_second_level(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says so, takes no room, and tries again with the next artifact."""
    rooms = [FILE_BYTES // 2, 1 << 30]
    with opened(path, room_bytes=lambda: rooms.pop(0)) as level:
        put(level, 1)
        assert (got(level, 1), level.size_bytes, path.stat().st_size) == (None, 0, 0)
        assert "no room" in capfd.readouterr().err
        level.serve(TWO, "cpu")
        settle(level)
        level.offer(key_of(3, TWO), keep({"y": np.full(1, 3, np.int32)}))
        settle(level)
        assert got(level, 3, TWO) == 3
        level.stop()
        settle(level)
        assert not path.exists()
        assert got(level, 3, TWO) is None


def test_a_link_or_a_pipe_is_not_written_to(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What lies at its place and is no file of ours keeps what it holds."""
    path.parent.mkdir()
    other = path.parent / "other"
    other.write_bytes(b"mine")
    path.symlink_to(other)
    with opened(path) as level:
        put(level, 1)
        assert got(level, 1) is None
    assert other.read_bytes() == b"mine"
    path.unlink()
    os.mkfifo(path)
    with opened(path) as level:
        assert got(level, 1) is None
    assert capfd.readouterr().err.count("not kept") == 2


def test_one_process_at_a_time(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A second one has no second level while the first has the file, and harms nothing."""
    with opened(path) as level:
        put(level, 1)
        with opened(path) as second:
            assert got(second, 1) is None
        assert got(level, 1) == 1
    assert "not kept" in capfd.readouterr().err


def test_a_failing_disk_turns_it_off(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error of a write is said once; requests go on without this level."""
    with opened(path) as level:
        put(level, 1)

        def fails(*_: object) -> int:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(os, "pwrite", fails)
            put(level, 2)
            put(level, 3)
        assert [got(level, number) for number in (1, 2, 3)] == [None] * 3
        assert capfd.readouterr().err.count("not kept") == 1


def test_files_of_others_go(path: Path) -> None:
    """Those of models that have no second level any more; nothing else."""
    path.parent.mkdir()
    for name in ("m.responses", "n.responses", "note.txt"):
        (path.parent / name).write_bytes(b"x")
    remove_others(path.parent, {path})
    assert sorted(one.name for one in path.parent.iterdir()) == ["m.responses", "note.txt"]
    remove_others(path.parent / "none", set())


def test_behind_the_first_level(path: Path) -> None:
    """What memory has no room for comes from the file, and counts as its hit."""
    level = FileLevel(path, FILE_BYTES, room_bytes=lambda: 1 << 30)
    cache = ResponseCache(1100, level)  # one entry
    cache.serve(ONE, runs_on="cpu")
    settle(level)

    def run_of(number: int) -> Callable[..., object]:
        return lambda **_: keep({"y": np.full(2, number, np.int32)})

    for number in (1, 2):
        assert cache.answer(key_of(number), run_of(number))[1] == "run"  # type: ignore[arg-type]
    settle(level)
    wait_for(lambda: level.get(key_of(1)) is not None, "the file")
    sources = [cache.answer(key_of(n), run_of(99))[1] for n in (2, 1, 1, 2)]  # type: ignore[arg-type]
    assert sources == ["memory", "file", "memory", "file"]
    use = cache.use()
    assert (use.memory_hits, use.file_hits, use.misses) == (2, 2, 2)
    assert use.file_bytes == FILE_BYTES
    cache.stop()
    settle(level)
    assert not path.exists()
    cache.close()
