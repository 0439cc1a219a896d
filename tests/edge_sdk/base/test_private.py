"""What others can get at is not used for a key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edge_sdk.base import (
    RefusedError,
    UsageError,
    make_private_folder,
    refuse_open_file,
    refuse_open_folder,
)


def test_a_folder_is_made_for_its_owner(tmp_path: Path) -> None:
    """Only its owner gets into a new one; one that is there stays as it is."""
    make_private_folder(tmp_path / "one" / "two")
    assert stat.S_IMODE((tmp_path / "one" / "two").stat().st_mode) == 0o700
    make_private_folder(tmp_path / "one" / "two")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="in the way"):
        make_private_folder(tmp_path / "file")
    with pytest.raises(UsageError):
        make_private_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_write_into(tmp_path: Path, mode: int) -> None:
    """Whoever can write into it can exchange what is in it: refused, saying what to do; not
    with the sticky bit, as of /tmp."""
    tmp_path.chmod(mode)
    with pytest.raises(RefusedError, match=f"mode {mode:04o}.*chmod 700"):
        refuse_open_folder(tmp_path)
    for fine in (0o755, 0o1777):
        tmp_path.chmod(fine)
        refuse_open_folder(tmp_path)


@pytest.mark.parametrize("mode", [0o666, 0o640, 0o604, 0o620])
def test_a_key_that_others_get_at(tmp_path: Path, mode: int) -> None:
    """A key file with any right of others is refused, saying what to do."""
    file = tmp_path / "key.pem"
    file.touch()
    file.chmod(mode)
    with pytest.raises(RefusedError, match=r"mode 0\d+.*chmod 600"):
        refuse_open_file(file)
    file.chmod(0o600)
    refuse_open_file(file)


def test_what_is_not_there(tmp_path: Path) -> None:
    """It is said by who opens it."""
    refuse_open_file(tmp_path / "none")
    refuse_open_folder(tmp_path / "none")
