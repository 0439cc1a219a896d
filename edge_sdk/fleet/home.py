"""What an operator's machine keeps between commands: identity, and what was seen last of audit
logs and signed metadata.

A folder for its owner alone: ``EDGE_FLEET_HOME``, or ``~/.config/edge-fleet``.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_sdk.base import Digest, FormatError, UsageError, explain_os_error, sync_folder

_VARIABLE = "EDGE_FLEET_HOME"
_KEPT_BYTES_MAX = 64 << 10


class KeptHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The head of a distributor's audit log as it was seen last, with the key of its heads.

    The note stays as it was signed: it is evidence of what the distributor said then.
    """

    key: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHome:
    """``root`` is made when something is kept there first."""

    root: Path

    @classmethod
    def default(cls) -> FleetHome:
        named = os.environ.get(_VARIABLE)
        if named:
            return cls(root=Path(named))
        try:
            return cls(root=Path.home() / ".config" / "edge-fleet")
        except RuntimeError:
            raise UsageError(f"there is no home folder here; name one in {_VARIABLE}") from None

    @property
    def trust_marks(self) -> Path:
        """Where ``TrustMarks`` keeps which signed metadata were seen."""
        return self.root / "trust"

    def kept_head(self, distributor: str) -> KeptHead | None:
        """Raises: FormatError (damaged: it must not be taken for a first time)."""
        file = self._head_file(distributor)
        try:
            with file.open("rb") as stream:
                data = stream.read(_KEPT_BYTES_MAX)
            return msgspec.json.decode(data, type=KeptHead)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain_os_error(error, file) from error
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise FormatError(
                f"{file} is damaged: it keeps the audit head seen last; put a copy back, or remove "
                "it and compare with another operator's"
            ) from None

    def keep_head(self, distributor: str, kept: KeptHead) -> None:
        self.write(self._head_file(distributor), msgspec.json.encode(kept) + b"\n")

    def _head_file(self, distributor: str) -> Path:
        readable = re.sub(r"[^A-Za-z0-9.-]+", "_", distributor)[:80]
        return self.root / "audit" / f"{readable}-{Digest.of(distributor.encode())!s:.8}.json"

    def write(self, file: Path, data: bytes) -> None:
        """Writes ``file`` whole, for the owner alone. Raises: UsageError, ResourceError."""
        new = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            for folder in (self.root, file.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(new, flags, 0o600), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(file)
            sync_folder(file.parent)
        except FileExistsError as error:
            raise UsageError(f"{error.filename} is in the way: it must be a folder") from None
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise explain_os_error(error, file) from error
