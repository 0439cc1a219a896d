"""INT8 variants, made by the product's own command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from demo.stage import DemoError


def compile_int8(model: Path, calibration: Path, folder: Path) -> Path:
    """Runs ``edge-quantize compile``; answers with the one model that it wrote.

    Raises: DemoError with what the command said.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "quantize.cli", "compile", str(model)),
            *("--target", "onnx-cpu-x86", "--calibration", str(calibration)),
            *("-o", str(folder)),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise DemoError(f"edge-quantize of {model} failed: {done.stderr.strip()[-800:]}")
    (compiled,) = sorted(folder.glob("*.onnx"))
    return compiled
