"""Which processor this is: what was measured or computed on one may not hold for another."""

from __future__ import annotations

import platform
from pathlib import Path

_FACTS = Path("/proc/cpuinfo")


def processor_name() -> str:
    """As its maker calls it; else the kind of machine."""
    for line in _FACTS.read_text().splitlines() if _FACTS.exists() else ():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def processor() -> str:
    """What it is and can do, as far as that decides which instructions an engine chooses."""
    words = [platform.machine()]
    for line in _FACTS.read_text().split("\n\n", 1)[0].splitlines() if _FACTS.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "flags", "Features", "CPU part"):
            words.append(value.strip())
    return " ".join(words)
