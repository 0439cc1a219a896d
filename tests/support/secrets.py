"""Where secrets lie: every file below a folder that holds one, and who can read it."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PRIVATE_KEY = b"PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Held:
    """A file (its path below the folder) that holds the secret called ``name``."""

    file: str
    name: str
    open_to_others: bool


def secrets_in(folder: Path, secrets: Mapping[str, bytes]) -> list[Held]:
    """Every regular file below ``folder`` with one of ``secrets``, or a private key in PEM."""
    sought = {**secrets, "private key": PRIVATE_KEY}
    found = []
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.is_symlink():
            continue
        data = file.read_bytes()
        others = bool(stat.S_IMODE(file.stat().st_mode) & 0o077)
        held = [name for name, secret in sought.items() if secret in data]
        found += [Held(str(file.relative_to(folder)), name, others) for name in held]
    return found
