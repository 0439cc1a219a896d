"""The journal: what was written is read, whatever happened to its tail."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.store.filesystem import FileSystem
from device_agent.store.journal import (
    Acknowledged,
    Entered,
    Forgotten,
    Journal,
    Judged,
    Numbered,
    encode_records,
    read_records,
)
from edge_sdk.base import ResourceError
from tests.support.recording_files import RecordingFiles


def entered(number: int, state: str = "assigned", model: str = "team/digits") -> Entered:
    return Entered(
        number=number,
        at_ms=number * 1000,
        model=model,
        version="1.0.0",
        variant="fp32",
        artifact="ab" * 32,
        rollout="r",
        attempt=1,
        kind="update",
        state=state,
        event="e",
        facts={"wire_bytes": "12"},
    )


JUDGED = Judged(model="team/digits", artifact="ab" * 32, attempt=2, reason="R", message="m")
RECORDS = [entered(1), entered(2, "planned"), JUDGED, Acknowledged(number=1), entered(3, "failed")]


def journal(path: Path, files: FileSystem | None = None) -> Journal:
    return Journal(files or FileSystem(), path)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    """Events, latest state, verdicts, acknowledgement and number survive."""
    one = journal(tmp_path / "j")
    one.append(*RECORDS)
    two = journal(tmp_path / "j")
    assert two.events() == [entered(1), entered(2, "planned"), entered(3, "failed")]
    assert two.events(2) == [entered(3, "failed")]
    assert two.latest() == {"team/digits": entered(3, "failed")}
    assert (two.number, two.acknowledged, two.damaged_bytes) == (3, 1, 0)
    assert two.outcomes("team/digits") == {("ab" * 32, 1, "r"): "failed"}


def test_a_verdict_blocks_up_to_its_attempt(tmp_path: Path) -> None:
    """A higher attempt lifts it; other artifacts are not concerned."""
    one = journal(tmp_path / "j")
    one.append(JUDGED)
    assert one.verdict("team/digits", "ab" * 32, 1) == JUDGED
    assert one.verdict("team/digits", "ab" * 32, 2) == JUDGED
    assert one.verdict("team/digits", "ab" * 32, 3) is None
    assert one.verdict("team/digits", "cd" * 32, 1) is None
    one.append(Forgotten(model="team/digits"))
    assert journal(tmp_path / "j").verdict("team/digits", "ab" * 32, 1) is None


def test_the_newest_verdict_comes_last(tmp_path: Path) -> None:
    """Also one on an artifact that was judged before, and after compaction and a start."""
    one = journal(tmp_path / "j")
    other = Judged(model="team/digits", artifact="cd" * 32, attempt=1, reason="R", message="m")
    foreign = Judged(model="team/x", artifact="ef" * 32, attempt=1, reason="R", message="m")
    one.append(JUDGED, other, JUDGED, foreign)
    one.compact()
    for each in (one, journal(tmp_path / "j")):
        assert each.spoken_against("team/digits") == ["cd" * 32, "ab" * 32]


@given(cut=st.integers(0, 10_000))
def test_a_torn_tail_loses_only_the_torn_record(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """Cut anywhere, the records before the cut are read, and new ones follow them."""
    data = encode_records(RECORDS)
    cut %= len(data) + 1
    path = tmp_path_factory.mktemp("j") / "journal"
    path.write_bytes(data[:cut])
    whole = [record for record, end in read_records(data) if end <= cut]
    one = journal(path)
    assert one.damaged_bytes == cut - len(encode_records(whole))
    one.append(entered(9))
    assert [record for record, _ in read_records(path.read_bytes())] == [*whole, entered(9)]


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_never_gives_a_wrong_record(at: int, bit: int) -> None:
    """Damage ends the reading; what is read is what was written."""
    data = bytearray(encode_records(RECORDS))
    data[at % len(data)] ^= 1 << bit
    found = [record for record, _ in read_records(bytes(data))]
    assert found == RECORDS[: len(found)]
    assert len(found) < len(RECORDS)


def test_damage_is_kept_aside(tmp_path: Path) -> None:
    """The tail that was cut off lies beside, for whoever wonders."""
    path = tmp_path / "journal"
    path.write_bytes(encode_records(RECORDS) + b"torn")
    journal(path)
    assert (tmp_path / "journal.damaged").read_bytes() == b"torn"
    assert path.read_bytes() == encode_records(RECORDS)


def test_a_full_disk_leaves_no_half_record(tmp_path: Path) -> None:
    """The record that did not fit is gone, and the next one follows a whole one."""
    files = RecordingFiles()
    one = journal(tmp_path / "j", files)
    one.append(entered(1))

    def half(name: str, arguments: tuple[object, ...]) -> int | None:
        if name == "sync_file":
            return errno.ENOSPC
        return None

    files.fail = half
    with pytest.raises(ResourceError):
        one.append(entered(2))
    files.fail = lambda name, arguments: None
    one.append(entered(3))
    assert [event.number for event in journal(tmp_path / "j").events()] == [1, 3]


def test_compaction_keeps_what_matters(tmp_path: Path) -> None:
    """Unacknowledged events, states, verdicts and the number; forgotten models stay forgotten."""
    one = journal(tmp_path / "j")
    one.append(*(entered(n, model="team/old") for n in range(1, 6)))
    one.append(*(entered(n) for n in range(6, 700)), JUDGED, Acknowledged(number=650))
    one.append(Forgotten(model="team/old"), Numbered(number=900))
    before = (tmp_path / "j").stat().st_size
    one.compact()
    assert (tmp_path / "j").stat().st_size < before
    two = journal(tmp_path / "j")
    assert (two.number, two.acknowledged) == (900, 650)
    assert set(two.latest()) == {"team/digits"}
    assert [event.number for event in two.events(650)] == list(range(651, 700))
    assert two.verdict("team/digits", "ab" * 32, 1) == JUDGED
    two.append(entered(901))
    assert journal(tmp_path / "j").number == 901


def test_it_compacts_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal does not grow for ever."""
    monkeypatch.setattr("device_agent.store.journal._COMPACT_BYTES", 20_000)
    monkeypatch.setattr("device_agent.store.journal._EVENTS_KEPT", 10)
    one = journal(tmp_path / "j")
    for number in range(1, 200):
        one.append(entered(number), Acknowledged(number=number))
    assert (tmp_path / "j").stat().st_size < 25_000
    assert journal(tmp_path / "j").number == 199


def test_nonsense_is_no_journal() -> None:
    """Other bytes hold no record; a record of an unknown kind ends the reading."""
    assert list(read_records(b"\xff" * 100)) == []
    data = encode_records([JUDGED]).replace(b"Judged", b"Fudged")
    import struct
    import zlib

    payload = data[8:]
    assert list(read_records(struct.pack("<II", len(payload), zlib.crc32(payload)) + payload)) == []
