"""The lowest version that may run: kept twice, and only ever higher."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.errors import StateError
from device_agent.store import Store
from device_agent.store.filesystem import FileSystem
from device_agent.trust import AssignmentKeeper
from device_agent.trust.floors import Floors, raised
from edge_sdk.base import TrustError, Version
from tests.support.recording_files import Cut, RecordingFiles


def floors(**versions: str) -> dict[str, Version]:
    return {model: Version.parse(version) for model, version in versions.items()}


def paths(folder: Path) -> tuple[Path, Path]:
    return (folder / "one", folder / "two")


def test_the_higher_one_holds() -> None:
    """For each model by itself."""
    merged = raised(floors(a="1.0.0", b="2.0.0"), floors(a="1.5.0", b="1.0.0", c="0.1.0"))
    assert merged == floors(a="1.5.0", b="2.0.0", c="0.1.0")


@pytest.mark.parametrize("damage", [b"", b"\0\0", b"[]", b'{"a":7}', b'{"a":"x"}', b"\xff{}"])
def test_a_damaged_copy_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    """What either copy says holds; where none can be read, that is an error."""
    kept = Floors(FileSystem(), paths(tmp_path))
    assert kept.read() == {}
    kept.raise_to(floors(a="1.0.0"))
    for path in paths(tmp_path):
        path.write_bytes(damage)
        assert kept.read() == floors(a="1.0.0")
        kept.raise_to({})
        assert path.read_bytes() == b'{"a":"1.0.0"}'
    for path in paths(tmp_path):
        path.write_bytes(damage)
    with pytest.raises(StateError):
        kept.read()
    kept.raise_to(floors(a="1.2.0"))
    assert kept.read() == floors(a="1.2.0")


def test_power_cut_while_a_floor_rises(tmp_path: Path) -> None:
    """At every step one copy or both say the floor before or the new one."""
    undisturbed = RecordingFiles()
    Floors(undisturbed, paths(tmp_path)).raise_to(floors(a="1.0.0"))
    for step in range(len(undisturbed.log)):
        folder = tmp_path / str(step)
        folder.mkdir()
        Floors(FileSystem(), paths(folder)).raise_to(floors(a="1.0.0"))
        with pytest.raises(Cut):
            Floors(RecordingFiles(cut_at=step), paths(folder)).raise_to(floors(a="2.0.0"))
        assert Floors(FileSystem(), paths(folder)).read()["a"] >= Version.parse("1.0.0")


def test_nobody_here_goes_below_it(tmp_path: Path) -> None:
    """`edge-agent rollback` is no way around it."""
    keeper = AssignmentKeeper(Store.create(tmp_path / "s"), "kiosk-7")
    assert keeper.allowed("a", Version.parse("0.1.0")) == "0.1.0"
    (tmp_path / "s" / "trust").mkdir()
    keeper.floors.raise_to(floors(a="1.0.0"))
    assert keeper.allowed("a", Version.parse("1.0.0")) == "1.0.0"
    with pytest.raises(TrustError, match="floor"):
        keeper.allowed("a", Version.parse("0.9.0"))
