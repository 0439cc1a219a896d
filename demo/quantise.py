"""INT8 variants, made by the product's own command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def compile_int8(model: Path, calibration: Path, folder: Path) -> Path:
    """Runs ``edge-quantize compile``; answers with the one model that it wrote."""
    subprocess.run(
        [
            *(sys.executable, "-m", "quantize.cli", "compile", str(model)),
            *("--target", "onnx-cpu-x86", "--calibration", str(calibration)),
            *("-o", str(folder)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (compiled,) = sorted(folder.glob("*.onnx"))
    return compiled
