"""A variant appears whole or not at all, and the same inputs give the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from edge_sdk.base import ConflictError, FormatError, NotFoundError, UsageError
from quantize.compile import Compiled, compile_model
from tests.support.float_models import mlp_model, write_calibration


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    model = tmp_path / "digits.onnx"
    onnx.save(mlp_model(), model)
    return model, write_calibration(tmp_path / "c.npz")


def compiled(inputs: tuple[Path, Path], folder: Path, *, replace: bool = False) -> Compiled:
    model, calibration = inputs
    return compile_model(
        model, target="onnx-cpu-x86", calibration=calibration, folder=folder, replace=replace
    )


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_folder_holds_model_and_report(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """The folder has exactly the model and the report that the call answered with."""
    made = compiled(inputs, tmp_path / "int8")
    assert names(made.folder) == {"model.onnx", "report.json"}
    assert json.loads((made.folder / "report.json").read_text()) == made.report
    assert made.model.stat().st_size == made.report["model"]["size_bytes"]
    assert names(tmp_path) == {"digits.onnx", "c.npz", "int8"}


def test_bytes_are_repeatable(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Twice in one process, and in processes with other hash seeds: the same bytes each time."""
    first = compiled(inputs, tmp_path / "a")
    second = compiled(inputs, tmp_path / "b")
    model, calibration = inputs
    for seed in ("0", "1"):
        subprocess.run(
            [sys.executable, "-m", "quantize.cli", "compile", str(model), "--target",
             "onnx-cpu-x86", "--calibration", str(calibration), "-o", str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )  # fmt: skip
    for folder in (second.folder, tmp_path / "0", tmp_path / "1"):
        for name in ("model.onnx", "report.json"):
            assert (folder / name).read_bytes() == (first.folder / name).read_bytes()


def test_failure_leaves_nothing(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A failure, early or late, leaves no folder and no temporary one."""
    before = names(tmp_path)
    with pytest.raises(UsageError):
        compiled((inputs[0], write_calibration(tmp_path / "c.npz", shape=(3,))), tmp_path / "out")
    with pytest.raises(NotFoundError):
        compile_model(inputs[0], target="none", calibration=inputs[1], folder=tmp_path / "out")
    inputs[0].write_bytes(b"no model")
    with pytest.raises(FormatError):
        compiled(inputs, tmp_path / "out")
    assert names(tmp_path) == before


def test_existing_folder_is_replaced_only_when_told(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    """A folder made before is a conflict, and with ``replace`` it is made again."""
    made = compiled(inputs, tmp_path / "out")
    (made.folder / "model.onnx").write_bytes(b"old")
    with pytest.raises(ConflictError, match="--force"):
        compiled(inputs, tmp_path / "out")
    assert (made.folder / "model.onnx").read_bytes() == b"old"
    again = compiled(inputs, tmp_path / "out", replace=True)
    assert again.model.stat().st_size > 3


def test_foreign_folders_are_never_replaced(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A folder with anything else in it is not replaced, whatever was told."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ConflictError, match="thesis"):
        compiled(inputs, folder, replace=True)
    assert (folder / "thesis.txt").exists()


def test_empty_folder_may_be_filled(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """An empty folder is as good as none."""
    (tmp_path / "out").mkdir()
    assert compiled(inputs, tmp_path / "out").model.exists()


def test_files_and_links_as_output_are_wrong_usage(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    """A file, or a link to a folder, is not where a variant goes."""
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    for folder in (inputs[0], tmp_path / "link"):
        with pytest.raises(UsageError, match="not a folder"):
            compiled(inputs, folder, replace=True)


def test_missing_parent_is_told(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """The parent of the output folder is not made."""
    with pytest.raises(NotFoundError, match="gone"):
        compiled(inputs, tmp_path / "gone" / "out")
