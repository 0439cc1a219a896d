"""``edge-delta`` as a program: exit codes, output, nothing half-written."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_sdk.base import EdgeError, UnavailableError
from edge_sdk.delta.cli import cli
from edge_sdk.delta.coder import KERNEL
from tests.support.deltas import safetensors, tuned, weights, write_folder
from tests.support.processes import unmeasured

BEFORE = weights("float32", 30_000, 1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two versions of a model, as files and as folders, as working folder."""
    old, new = (safetensors({"w": ("float32", bits)}) for bits in (BEFORE, tuned(BEFORE, 2)))
    write_folder(tmp_path, {"v1": old, "v2": new, "a1/m": old, "a2/m": new, "a2/labels": b"x"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from edge_sdk.delta.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def invoke(*arguments: str) -> Result:
    """In this process; raises what the command raises."""
    return CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)


def test_diff_apply_and_inspect(here: Path) -> None:
    """A file goes to its next version and back; each step says what it did."""
    assert "for 120.1 kB" in invoke("diff", "v1", "v2", "-o", "up").output
    invoke("diff", "v2", "v1", "-o", "down", "--threads", "2")
    invoke("apply", "v1", "up", "-o", "made")
    assert (here / "made").read_bytes() == (here / "v2").read_bytes()
    assert "proved" in invoke("apply", "v2", "down", "-o", "back", "--threads", "2").output
    assert (here / "back").read_bytes() == (here / "v1").read_bytes()
    shown = invoke("inspect", "up").output
    assert "residual" in shown
    assert "memory to decode" in shown


SHORTENED = """
import os, sys
from contextlib import contextmanager
from edge_sdk.formats import detect
from edge_sdk.delta.cli import main
opened = detect.open_file

@contextmanager
def then_shortened(path):
    with opened(path) as file:
        os.truncate(path, 0)
        yield file

detect.open_file = then_shortened
main()
"""


@pytest.mark.parametrize("command", [("diff", "v1", "v2", "-o", "up"), ("explain", "v1", "v2")])
def test_a_file_that_shrinks_under_a_reader_ends_the_command_only(
    here: Path, command: tuple[str, ...]
) -> None:
    """One line says what happened, and nothing is left; no signal ends the program."""
    ended = subprocess.run(
        [sys.executable, "-c", SHORTENED, *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == UnavailableError.exit_code
    assert "v1 changed while it was read" in ended.stderr
    assert sorted(path.name for path in here.iterdir()) == ["a1", "a2", "v1", "v2"]


def test_folders_and_wholes(here: Path) -> None:
    """A folder from a folder, and from nothing; the target folder appears with its files."""
    invoke("diff", "a1", "a2", "-o", "up")
    invoke("apply", "a1", "up", "-o", "made")
    invoke("diff", "-", "a2", "-o", "whole")
    invoke("apply", "-", "whole", "-o", "again")
    for name in ("m", "labels"):
        wanted = (here / "a2" / name).read_bytes()
        assert (here / "made" / name).read_bytes() == (here / "again" / name).read_bytes() == wanted
    assert "source file" not in invoke("inspect", "whole").output


def test_json_is_one_document(here: Path) -> None:
    """With --json each command prints one document that other programs can read."""
    made = json.loads(invoke("diff", "a1", "a2", "-o", "up", "--json").stdout)
    assert made["delta_bytes"] == (here / "up").stat().st_size
    assert made["methods"]["residual"]["records"] == 1
    applied = json.loads(invoke("apply", "a1", "up", "-o", "made", "--json").stdout)
    assert [file["path"] for file in applied["files"]] == ["labels", "m"]
    facts = json.loads(invoke("inspect", "up", "--json").stdout)
    assert facts["kernel"] == KERNEL
    assert facts["targets"] == applied["files"]
    assert len(facts["sources"][0]["digest"]) == 64
    assert facts["version"] == 1


def test_methods_and_memory_can_be_limited(here: Path) -> None:
    """--method restricts what is used; --memory-limit holds for making and for applying."""
    made = invoke("diff", "v1", "v2", "-o", "plain", "--method", "literal", "--json").stdout
    assert set(json.loads(made)["methods"]) == {"literal"}
    with pytest.raises(EdgeError, match="memory"):
        invoke("diff", "v1", "v2", "-o", "none", "--memory-limit", "1000")
    invoke("diff", "v1", "v2", "-o", "up")
    with pytest.raises(EdgeError, match="memory"):
        invoke("apply", "v1", "up", "-o", "made", "--memory-limit", "100000")
    assert not (here / "none").exists()
    assert not (here / "made").exists()


def test_nothing_is_replaced_without_force(here: Path) -> None:
    """An existing output is left as it is; --force replaces it."""
    (here / "up").write_bytes(b"mine")
    with pytest.raises(EdgeError, match="--force"):
        invoke("diff", "v1", "v2", "-o", "up")
    assert (here / "up").read_bytes() == b"mine"
    invoke("diff", "v1", "v2", "-o", "up", "--force")
    with pytest.raises(EdgeError, match="--force"):
        invoke("apply", "v1", "up", "-o", "v2")
    invoke("apply", "v1", "up", "-o", "v2", "--force")


def test_missing_inputs_are_told(here: Path) -> None:
    """A source, target or delta that is not there, and a target of none."""
    for arguments, problem in (
        (("diff", "gone", "v2", "-o", "up"), "no such file or folder: gone"),
        (("diff", "v1", "gone", "-o", "up"), "gone"),
        (("diff", "v1", "-", "-o", "up"), "TARGET names"),
        (("apply", "v1", "gone", "-o", "made"), "gone"),
        (("inspect", "gone"), "gone"),
        (("diff", "v1", "v2", "-o", "-"), "- names none"),
        (("apply", "v1", "v2", "-o", "-"), "- names none"),
    ):
        with pytest.raises(EdgeError, match=problem):
            invoke(*arguments)
    assert not (here / "up").exists()
    assert not (here / "-").exists()


@pytest.mark.parametrize("name", ["trunc", "delta"])
def test_what_is_wrong_with_a_delta_names_its_file(here: Path, name: str) -> None:
    """Also where the file's name is a part of the words that say what is wrong."""
    invoke("diff", "v1", "v2", "-o", "up")
    whole = (here / "up").read_bytes()
    (here / name).write_bytes(whole[:-9])
    with pytest.raises(EdgeError, match=f"^{name}: the delta is truncated$"):
        invoke("apply", "v1", name, "-o", "made")
    with pytest.raises(EdgeError, match=f"^{name} is truncated: {len(whole) - 9} of {len(whole)}"):
        invoke("inspect", name)


def test_explain_tells_the_files_of_a_folder_apart(here: Path) -> None:
    """Two files may hold tensors of the same name; of a single file no name is shown."""
    assert "m: w " in invoke("explain", "a1", "a2").stdout
    assert "labels: outside of tensors" in invoke("explain", "a1", "a2").stdout
    assert "v2" not in invoke("explain", "v1", "v2").stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("apply", "v1", "up", "-o", "made"), 0),
        (("apply", "v2", "up", "-o", "made"), 4),
        (("apply", "-", "up", "-o", "made"), 4),
        (("apply", "v1", "cut", "-o", "made"), 3),
        (("apply", "v1", "v2", "-o", "made"), 3),
        (("inspect", "cut"), 3),
        (("apply", "v1", "gone", "-o", "made"), 7),
        (("apply", "v1", "up", "-o", "v2"), 7),
        (("apply", "v1", "up"), 2),
        (("diff", "v1", "v2", "-o", "up", "--method", "magic"), 2),
        (("--version",), 0),
        (("--help",), 0),
    ],
)
def test_exit_codes(here: Path, arguments: tuple[str, ...], code: int) -> None:
    """Each outcome has its exit code; an error is one line, without traceback or leftover."""
    invoke("diff", "v1", "v2", "-o", "up")
    (here / "cut").write_bytes((here / "up").read_bytes()[:-9])
    done = program(*arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code:
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""
        assert not (here / "made").exists()


def test_an_error_as_json_names_its_reason(here: Path) -> None:
    """With --json also an error is one document on standard output."""
    invoke("diff", "v1", "v2", "-o", "up")
    done = program("apply", "v2", "up", "-o", "made", "--json")
    error = json.loads(done.stdout)["error"]
    assert (error["reason"], error["exit_code"]) == ("WrongSourceError", 4)
    assert error["facts"]["path"] == "v1"


def test_an_interruption_leaves_nothing_half_written(here: Path) -> None:
    """Ctrl-C while a large delta is made: exit 130, no output file, no temporary file."""
    with (here / "big").open("wb") as out:
        for seed in range(24):
            out.write(weights("float32", 1 << 20, seed).tobytes())
    before = set(here.iterdir())
    process = subprocess.Popen(
        [
            # On a busy machine it shall not be done before this process looks.
            *("nice", "-n", "19"),
            sys.executable,
            "-c",
            "from edge_sdk.delta.cli import main; main()",
            "diff",
            "-",
            "big",
            "-o",
            "up",
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured(),
    )
    deadline_s = time.monotonic() + 60
    while set(here.iterdir()) == before and time.monotonic() < deadline_s:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in message
    assert set(here.iterdir()) == before


def test_the_room_needs_only_the_base_install() -> None:
    """Importing edge_sdk.delta and its command brings in no gRPC and no engine."""
    code = (
        "import sys, edge_sdk.delta, edge_sdk.delta.cli; "
        "print([m for m in ('grpc', 'google.protobuf', 'onnx', 'onnxruntime', 'sqlalchemy', "
        "'distributor', 'device_agent') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_applying_does_without_what_only_encoding_and_drawing_need() -> None:
    """Importing takes longer than a small delta: alignment, readers and rich are left out."""
    program = "import sys, edge_sdk.delta.cli; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = set(ran.stdout.split())
    assert "edge_sdk.delta.decoder" in imported
    assert not imported & {"edge_sdk.delta.alignment", "edge_sdk.formats", "rich"}
