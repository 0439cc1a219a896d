"""Which machine, which versions, and how busy it is: what a figure means nothing without."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from edge_sdk.base.processor import processor_name

_PACKAGES = ("edge-model-sdk", "numpy", "grpcio", "onnxruntime", "ai-edge-litert", "tensorrt")


def machine() -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of the packages that are installed here and matter."""
    found = {name: _version(name) for name in _PACKAGES}
    return {name: version for name, version in found.items() if version}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def processor_times() -> tuple[float, float]:
    """Busy and whole time of all cores since the start of the system, in ticks."""
    line = Path("/proc/stat").read_text().split("\n", 1)[0]
    ticks = [float(word) for word in line.split()[1:9]]
    # user, nice, system, idle, iowait, irq, softirq, steal: stolen time was not ours to use.
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def busy_share(before: tuple[float, float], after: tuple[float, float]) -> float:
    """The share of all cores' time between two readings that was not idle."""
    whole = after[1] - before[1]
    return (after[0] - before[0]) / whole if whole > 0 else 0.0
