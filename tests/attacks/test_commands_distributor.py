"""``edge-distributor`` given what nobody should give it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support.attacked_command import assert_refused, call

DISTRIBUTOR = "distributor.cli"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good data folder and damaged ones."""
    folder = tmp_path_factory.mktemp("distributor")
    assert call(DISTRIBUTOR, "init", "--data", "data", folder=folder).code == 0
    for name in ("rotten", "strange"):
        (folder / name / "objects").mkdir(parents=True)
        (folder / name / "work").mkdir()
        (folder / name / "lock").touch()
        (folder / name / "format").write_bytes((folder / "data" / "format").read_bytes())
    (folder / "rotten" / "catalog.db").write_bytes(b"no database" * 1000)
    (folder / "strange" / "format").write_bytes(b"\xff\xfe")
    (folder / "file").write_bytes(b"")
    os.mkfifo(folder / "fifo")
    (folder / "deep.toml").write_text("[distributor]\na = " + "[" * 5000)
    (folder / "long.toml").write_text("[distributor]\nbuild_workers = " + "9" * 5000)
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("init --data file", 2, "name a folder"),
        ("serve --data gone --json", 7, "edge-distributor init"),
        ("serve --data strange", 7, "format"),
        ("serve --data rotten", 3, "damaged"),
        ("serve --data data --device-address unix:", 2, "names no socket file"),
        ("serve --data data --device-address 192.0.2.1:1 --json", 6, "not this machine"),
        ("serve --data data --config fifo", 2, "no regular file"),
        ("config show --config deep.toml", 3, "nested too deep"),
        ("config show --config long.toml", 3, "long.toml"),
    ],
)
def test_bad_input_is_one_line(made: Path, arguments: str, code: int, words: str) -> None:
    """Each bad input ends with its exit code and one line that names it; nothing changes."""
    ended = call(DISTRIBUTOR, *arguments.split(), folder=made)
    assert_refused(ended, code, words, as_json="--json" in arguments)


def test_address_in_use_is_one_line(made: Path) -> None:
    """A port that somebody else has is exit 7 in one line, without gRPC's own log."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = call(
            DISTRIBUTOR,
            *("serve", "--data", "data", "--json"),
            *("--device-address", address, "--operator-address", "127.0.0.1:0"),
            folder=made,
        )
    assert (refused.code, refused.err.count("\n")) == (7, 1), refused.err
    assert address in refused.err


def test_half_made_folder_is_taken_away(tmp_path: Path) -> None:
    """Where ``init`` cannot finish nothing of it stays, so that it can be tried again."""
    (tmp_path / "data").mkdir()
    limit = ["/bin/sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
    full = call(DISTRIBUTOR, "init", "--data", "data", folder=tmp_path, prefix=limit)
    assert_refused(full, 8, "catalog")
    assert call(DISTRIBUTOR, "init", "--data", "data", folder=tmp_path).code == 0
