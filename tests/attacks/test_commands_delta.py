"""``edge-delta`` given what nobody should give it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.attacked_command import assert_refused, call, without_privileges
from tests.support.processes import environment, program, unmeasured, wait_for

DELTA = "edge_sdk.delta.cli"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with versions, a delta between them, and everything that is no plain file."""
    folder = tmp_path_factory.mktemp("delta")
    chance = random.Random(1)
    data = chance.randbytes(100_000)
    (folder / "v1").write_bytes(data)
    (folder / "v2").write_bytes(data[:50_000] + chance.randbytes(50_000))
    (folder / "tree").mkdir()
    (folder / "tree" / "model").write_bytes(data)
    (folder / "unnamed \udcff").write_bytes(b"x")
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "locked").mkdir(mode=0)
    assert call(DELTA, "diff", "v1", "v2", "-o", "delta", folder=folder).code == 0
    whole = (folder / "delta").read_bytes()
    (folder / "truncated").write_bytes(whole[:-1])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (folder / "flipped").write_bytes(flipped)
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("diff gone v2 -o out", 7, "gone"),
        ("diff fifo v2 -o out", 3, "fifo is not a regular file"),
        ("diff v1 loop -o out", 2, "loop"),
        ("diff v1 v2 -o " + "n" * 300, 2, "too long"),
        ("diff v1 v2 -o v1 --force", 2, "is the input v1"),
        ("diff tree tree -o tree/out", 2, "lies in the input tree"),
        ("diff v1 v2 -o fifo --force", 2, "no regular file"),
        ("diff v1 v2 -o delta --json", 7, "--force"),
        ("apply v2 delta -o out", 4, "v2 is not the source"),
        ("apply v1 truncated -o out", 3, "truncated"),
        ("apply v1 flipped -o out --json", 3, "flipped"),
        ("apply v1 delta -o delta --force", 2, "is the input delta"),
        ("inspect flipped", 3, "flipped"),
        ("inspect v1", 3, "v1"),
        ("inspect /dev/zero", 3, "/dev/zero"),
    ],
)
def test_bad_input_is_one_line(made: Path, arguments: str, code: int, words: str) -> None:
    """Each bad input ends with its exit code and one line that names it; nothing changes."""
    ended = call(DELTA, *arguments.split(), folder=made)
    assert_refused(ended, code, words, as_json="--json" in arguments)


def test_empty_name_is_not_this_folder(made: Path) -> None:
    """An empty name, such as of an unset variable, never means the current folder."""
    assert_refused(call(DELTA, "diff", "", "v2", "-o", "out", folder=made), 2, "empty name")


def test_folder_that_may_not_be_read(made: Path) -> None:
    """A path that permissions hide is wrong usage, not a defect."""
    refused = call(
        DELTA, "diff", "locked/v1", "v2", "-o", "out", folder=made, prefix=without_privileges()
    )
    assert_refused(refused, 2, "no permission for locked/v1")


def test_names_that_the_terminal_cannot_show(made: Path) -> None:
    """A name that standard output cannot spell is shown all the same."""
    target = "unnamed \udcff"
    shown = call(
        DELTA,
        *("diff", "-", target, "-o", "strange"),
        folder=made,
        variables={"PYTHONIOENCODING": "ascii"},
    )
    (made / "strange").unlink()
    assert (shown.code, shown.err.count("\n")) == (0, 1), shown.err


@pytest.mark.parametrize("device", ["/dev/full", None])
def test_output_that_takes_nothing(made: Path, device: str | None) -> None:
    """A full device behind standard output is exit 8 in one line; a closed one is no error."""
    command = [*program(DELTA), "inspect", "delta", "--json"]
    end = f"> {device}" if device else ">&-"
    ended = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {end}', "sh", *command],
        cwd=made,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == ((8, 1) if device else (0, 0))


def test_table_into_a_closed_pipe_is_quiet(made: Path) -> None:
    """``edge-delta inspect | head -0``: nothing is said, and the code is that of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [*program(DELTA), "inspect", "delta"],
        cwd=made,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        env=environment(),
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_half_delta(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal in the middle leave no file behind."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(random.Random(1).randbytes(24 << 20))
    target.write_bytes(random.Random(2).randbytes(24 << 20))
    with subprocess.Popen(
        [*program(DELTA), "diff", str(source), str(target), "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        env=unmeasured(),
    ) as process:
        wait_for(lambda: list(tmp_path.glob("*.tmp")), "the temporary file", every_s=0.005)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert b"Traceback" not in said
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_a_file_that_may_not_be_so_large(made: Path) -> None:
    """Where a file may not grow it is exit 8, says so, and nothing of the file stays."""
    limit = ["/bin/sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
    full = call(DELTA, "diff", "-", "v2", "-o", "out", folder=made, prefix=limit)
    assert_refused(full, 8, "out would be larger than a file may be here; allow more (ulimit -f)")
