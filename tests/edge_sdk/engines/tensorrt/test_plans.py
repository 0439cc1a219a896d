"""The folder of plans: what is loaded is what was written, by us, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from edge_sdk.base import Digest, ProofError, UsageError
from edge_sdk.engines.known import PlanRoom
from edge_sdk.engines.tensorrt.plans import Plans
from edge_sdk.engines.tensorrt.rules import Kept, PlanKey
from tests.support.fake_gpu import KEY

DATA = bytes(range(256)) * 5


@dataclass
class Shelf:
    folder: Path
    room_bytes: int = 1 << 20
    held: list[Digest] = field(
        default_factory=lambda: [Digest.parse(letter * 64) for letter in "abcd"]
    )

    def open(self) -> Plans:
        return Plans(
            PlanRoom(folder=self.folder, room_bytes=lambda: self.room_bytes, held=lambda: self.held)
        )

    def write(self, key: PlanKey = KEY, data: bytes = DATA) -> bool:
        return self.open().write(key, "s", memoryview(data), made_by="build")

    def only(self) -> Kept:
        (found,) = self.open().all()
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "plans")


def test_a_plan_comes_back_as_it_was(shelf: Shelf) -> None:
    """Bytes, key, structure, and how it was made."""
    assert shelf.write()
    found = shelf.only()
    assert (found.key, found.structure, found.made_by) == (KEY, "s", "build")
    assert shelf.open().read(found) == DATA
    assert shelf.names() == [f"{KEY.name}.json", f"{KEY.name}.plan"]


def test_any_flipped_bit_is_found(shelf: Shelf) -> None:
    """The plan is gone afterwards, index line included."""
    for offset in (0, 700, len(DATA) - 1):
        shelf.write()
        kept = shelf.only()
        path = shelf.folder / f"{KEY.name}.plan"
        damaged = bytearray(DATA)
        damaged[offset] ^= 0x80
        path.write_bytes(damaged)
        with pytest.raises(ProofError, match="our index says"):
            shelf.open().read(kept)
        assert shelf.names() == []


def cut(path: Path) -> None:
    os.truncate(path, 100)


def lengthen(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")


def link_away(path: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(aside)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("harm", [cut, lengthen, link_away, make_fifo, Path.unlink])
def test_what_is_no_plain_file_of_that_size_is_not_read(
    shelf: Shelf, harm: Callable[[Path], None]
) -> None:
    """Cut, longer, a link, a pipe that would block, gone between listing and reading."""
    shelf.write()
    kept = shelf.only()
    harm(shelf.folder / f"{KEY.name}.plan")
    with pytest.raises(ProofError, match="cannot be read"):
        shelf.open().read(kept)
    assert not shelf.open().all()


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"\xff", b'{"key": {}}', b"[" * 100_000, b" " * (1 << 17)]
)
def test_an_index_line_that_is_none_is_passed_over(shelf: Shelf, line: bytes) -> None:
    """Damaged or far too long: the plan beside it is not loaded, and goes with the next write."""
    shelf.write()
    (shelf.folder / f"{KEY.name}.json").write_bytes(line)
    assert shelf.open().all() == ()
    other = replace(KEY, artifact="b" * 64)
    shelf.write(other)
    assert shelf.names() == [f"{other.name}.json", f"{other.name}.plan"]


def test_a_line_under_another_name_is_passed_over(shelf: Shelf) -> None:
    """A plan is found by its key: a copied line does not make it another's."""
    shelf.write()
    other = replace(KEY, artifact="b" * 64)
    for suffix in (".plan", ".json"):
        data = (shelf.folder / f"{KEY.name}{suffix}").read_bytes()
        (shelf.folder / f"{other.name}{suffix}").write_bytes(data)
    assert [one.key for one in shelf.open().all()] == [KEY]


def test_what_others_could_write_to_is_thrown_away(shelf: Shelf) -> None:
    """A folder that was open for a moment may hold anything, an index line as well."""
    shelf.write()
    shelf.folder.chmod(0o777)
    assert shelf.open().all() == ()
    assert shelf.names() == []
    assert shelf.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_could_read_is_closed(shelf: Shelf) -> None:
    """Nothing was at risk: the plans stay."""
    shelf.write()
    shelf.folder.chmod(0o755)
    assert shelf.only().key == KEY
    assert shelf.folder.stat().st_mode & 0o777 == 0o700


def test_a_link_is_no_folder_for_plans(shelf: Shelf, tmp_path: Path) -> None:
    """Nor is a file."""
    (tmp_path / "elsewhere").mkdir()
    shelf.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="plans alone"):
        shelf.open()
    shelf.folder.unlink()
    shelf.folder.write_bytes(b"")
    with pytest.raises(UsageError, match="plans alone"):
        shelf.open()


def test_a_plan_without_a_line_is_never_seen(shelf: Shelf) -> None:
    """A process that was killed between the two files leaves nothing that is loaded; the next
    one that writes removes it."""
    shelf.write()
    (shelf.folder / f"{KEY.name}.json").unlink()
    assert shelf.open().all() == ()
    shelf.write(replace(KEY, artifact="b" * 64))
    assert len(shelf.names()) == 2


def test_the_line_is_written_after_the_plan(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only once the plan is durable: each write ends with rename and fsync of the folder."""
    order = []
    plain = Plans._write
    monkeypatch.setattr(
        Plans,
        "_write",
        lambda self, path, data: (order.append(path.suffix), plain(self, path, data)),
    )
    shelf.write()
    assert order == [".plan", ".json"]


def test_old_plans_make_room(shelf: Shelf) -> None:
    """The one unused longest goes; reading counts as use; without room nothing is written."""
    keys = [replace(KEY, artifact=letter * 64) for letter in "abc"]
    for age, key in enumerate(keys[:2]):
        shelf.write(key)
        os.utime(shelf.folder / f"{key.name}.json", ns=(age, age))
    first = next(one for one in shelf.open().all() if one.key == keys[0])
    shelf.open().read(first)
    shelf.room_bytes = 0
    assert shelf.write(keys[2])
    assert {one.key for one in shelf.open().all()} == {keys[0], keys[2]}
    assert not shelf.write(replace(KEY, artifact="d" * 64), DATA * 9)
    assert {one.key for one in shelf.open().all()} == {keys[0], keys[2]}


def test_plans_of_artifacts_that_are_gone_are_removed(shelf: Shelf) -> None:
    """By ``tidy``, and with the next write."""
    other = replace(KEY, artifact="b" * 64)
    shelf.write()
    shelf.write(other)
    shelf.held.remove(Digest.parse("b" * 64))
    shelf.open().tidy()
    assert shelf.only().key == KEY
    shelf.held.clear()
    shelf.write(other)
    assert shelf.only().key == other


def test_two_processes_do_not_remove_each_others_plans(shelf: Shelf) -> None:
    """While one writes, the other waits with its sweeping."""
    shelf.write()
    code = (
        "import sys; from pathlib import Path; from edge_sdk.engines.known import PlanRoom\n"
        "from edge_sdk.engines.tensorrt.plans import Plans\n"
        "room = PlanRoom(folder=Path(sys.argv[1]), room_bytes=lambda: 0, held=lambda: ())\n"
        "print('ready', flush=True); Plans(room).tidy(); print('done', flush=True)"
    )
    with shelf.open()._alone():
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(shelf.folder)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert len(shelf.names()) == 2
    with child:
        assert child.stdout.readline() == "done\n"
    assert shelf.names() == []


def test_the_line_says_what_it_is(shelf: Shelf) -> None:
    """Readable by people: artifact, library, GPU, driver, flags, profiles."""
    shelf.write()
    line = msgspec.json.decode((shelf.folder / f"{KEY.name}.json").read_bytes())
    assert line["key"]["artifact"] == "a" * 64
    assert line["key"]["place"]["gpu"] == "Orin"
    assert line["size_bytes"] == len(DATA)
