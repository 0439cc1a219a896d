"""``edge-quantize`` as a program: results, exit codes, one document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from quantize.cli import cli, main
from tests.support.float_models import mlp_model, write_calibration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(mlp_model(), tmp_path / "m.onnx")
    write_calibration(tmp_path / "c.npz")
    return tmp_path


def compile_arguments(folder: Path) -> list[str]:
    return ["compile", str(folder / "m.onnx"), "--target", "onnx-cpu-x86",
            "--calibration", str(folder / "c.npz"), "-o", str(folder / "out")]  # fmt: skip


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quantize.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_json_is_one_document(folder: Path) -> None:
    """With ``--json`` standard output is one document with the report in it."""
    ended = program(*compile_arguments(folder), "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    document = json.loads(ended.stdout)
    assert document["model"] == str(folder / "out" / "model.onnx")
    assert document["report"] == json.loads((folder / "out" / "report.json").read_text())


def test_people_get_a_table(folder: Path) -> None:
    """Without ``--json`` size, agreement and what it was measured on are shown."""
    ended = CliRunner().invoke(cli, compile_arguments(folder))
    assert ended.exit_code == 0
    assert "flips" in ended.stdout
    assert "calibration samples" in ended.stdout


def test_targets_are_listed() -> None:
    """``targets`` names each target, as a table and as a document."""
    assert "onnx-cpu-x86" in CliRunner().invoke(cli, ["targets"]).stdout
    listed = json.loads(CliRunner().invoke(cli, ["targets", "--json"]).stdout)
    assert [one["name"] for one in listed["targets"]] == ["onnx-cpu-x86"]


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda folder: (folder / "m.onnx").write_bytes(b"x"), 3, "not a valid ONNX"),
        (lambda folder: (folder / "c.npz").write_bytes(b"x"), 3, "not an NPZ"),
        (lambda folder: (folder / "m.onnx").unlink(), 7, "no such file"),
        (lambda folder: (folder / "out").write_bytes(b""), 2, "not a folder"),
        (lambda folder: write_calibration(folder / "c.npz", shape=(3,)), 2, "shape"),
    ],
)
def test_bad_input_is_one_line(folder: Path, change, code: int, says: str) -> None:  # type: ignore[no-untyped-def]
    """Bad input: the documented exit code, one line that names it, no partial output."""
    change(folder)
    before = sorted(folder.iterdir())
    ended = program(*compile_arguments(folder), "--json")
    assert ended.returncode == code
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert json.loads(ended.stdout)["error"]["exit_code"] == code
    assert sorted(folder.iterdir()) == before


def test_packages_that_are_not_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extra is named, and it is no defect; listing the targets needs nothing of it."""
    monkeypatch.setattr("quantize.cli._PACKAGES", ("onnx", "no_such_package"))
    monkeypatch.setattr(sys, "argv", ["edge-quantize", *compile_arguments(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, "'edge-model-sdk[quantize]'" in capsys.readouterr().err) == (6, True)
    assert CliRunner().invoke(cli, ["targets"]).exit_code == 0


def test_missing_options_are_wrong_usage() -> None:
    """Without calibration samples nothing is quantised."""
    ended = program("compile", "m.onnx", "--target", "onnx-cpu-x86", "-o", "out")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--calibration" in ended.stderr
