"""A command of the product as a real process, given bad input: what it said and what it left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import environment, program, unmeasured

DEADLINE_S = 60.0

Entry = tuple[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended, and whether the folder is as it was before."""

    code: int
    out: str
    err: str
    untouched: bool


def call(
    module: str,
    *arguments: str | Path,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Ended:
    """Runs a command in ``folder``; one that hangs fails the test."""
    before = contents(folder)
    around = (unmeasured if prefix else environment)(**(variables or {}))
    del around["GRPC_VERBOSITY"]  # the command itself must keep gRPC's log away
    ended = subprocess.run(
        [*prefix, *program(module), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        env=around,
        check=False,
    )
    return Ended(
        code=ended.returncode,
        out=ended.stdout,
        # What the switch for tests says of itself is no word of the command's.
        err="".join(
            line for line in ended.stderr.splitlines(keepends=True) if "UNPROTECTED" not in line
        ),
        untouched=contents(folder) == before,
    )


def assert_refused(ended: Ended, code: int, words: str, *, as_json: bool = False) -> None:
    """The documented exit code, one line that holds ``words``, and nothing left or changed."""
    assert (ended.code, ended.err.count("\n")) == (code, 1), ended.err
    assert words in ended.err
    assert "Traceback" not in ended.err
    if as_json:
        assert json.loads(ended.out)["error"]["exit_code"] == code
    else:
        assert ended.out == ""
    assert ended.untouched


def contents(folder: Path) -> dict[str, Entry]:
    """Kind of each entry below ``folder``, with the bytes of regular files."""
    found = {}
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, data)
    return found


def without_privileges() -> list[str]:
    """What makes a command heed permissions also where the tests run as root."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root reads everything, and there is no setpriv to give that up")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search"]
