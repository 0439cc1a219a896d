"""Changes bytes of files where they lie, as rot or an attacker with access does."""

from __future__ import annotations

from pathlib import Path


def flip_bit(path: Path, at: int) -> None:
    """Changes one bit of the byte at ``at``, in place, also in a read-only file."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(at)
        (byte,) = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte ^ 0x40]))
    path.chmod(mode)
