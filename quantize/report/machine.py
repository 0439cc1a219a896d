"""Which of the CPU's instructions can change the numbers of a calibration."""

from __future__ import annotations

from pathlib import Path

_THAT_MATTER = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of ``_THAT_MATTER`` that this CPU has; none where the system does not say."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            have = set(value.split())
            return tuple(name for name in _THAT_MATTER if name in have)
    return ()
