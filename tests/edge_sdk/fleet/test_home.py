"""What an operator's machine keeps is for its owner alone, and damage is not a first time."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edge_sdk.base import FormatError, UsageError
from edge_sdk.fleet.home import FleetHome, KeptHead

KEPT = KeptHead(key="log+12345678+AA==", note="log\n1\n")


def test_a_head_is_kept(tmp_path: Path) -> None:
    """What was kept comes back; of another distributor there is nothing."""
    home = FleetHome(root=tmp_path / "home")
    assert home.kept_head("127.0.0.1:7444") is None
    home.keep_head("127.0.0.1:7444", KEPT)
    assert home.kept_head("127.0.0.1:7444") == KEPT
    assert home.kept_head("127.0.0.1:7445") is None


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Folders are 0700 and files 0600, also those of a home that is new."""
    home = FleetHome(root=tmp_path / "a" / "home")
    home.keep_head("fleet.example:7444", KEPT)
    (file,) = (home.root / "audit").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (file.parent, home.root):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_kept_head_is_replaced_whole(tmp_path: Path) -> None:
    """A new head takes the place of the old one, and nothing else is left."""
    home = FleetHome(root=tmp_path)
    newer = KeptHead(key=KEPT.key, note="log\n2\n")
    for one in (KEPT, newer):
        home.keep_head("here", one)
    assert home.kept_head("here") == newer
    assert len(list((tmp_path / "audit").iterdir())) == 1


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"key":1,"note":2}', b"\xff\xfe"])
def test_damage_is_no_first_time(tmp_path: Path, data: bytes) -> None:
    """A damaged file is an error: taken for nothing, it would let a rewritten log pass."""
    home = FleetHome(root=tmp_path)
    home.keep_head("here", KEPT)
    (file,) = (tmp_path / "audit").iterdir()
    file.write_bytes(data)
    with pytest.raises(FormatError, match="compare with another operator's"):
        home.kept_head("here")


def test_the_default_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EDGE_FLEET_HOME names it; without, it is a folder of the user's configuration."""
    monkeypatch.setenv("EDGE_FLEET_HOME", str(tmp_path))
    assert FleetHome.default().root == tmp_path
    monkeypatch.delenv("EDGE_FLEET_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert FleetHome.default().root == Path("/home/ada/.config/edge-fleet")


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder is told how to name one."""

    def none() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("EDGE_FLEET_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(UsageError, match="EDGE_FLEET_HOME"):
        FleetHome.default()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    """What cannot be written is said in one line."""
    (tmp_path / "home").write_text("no folder")
    with pytest.raises(UsageError):
        FleetHome(root=tmp_path / "home").keep_head("here", KEPT)
