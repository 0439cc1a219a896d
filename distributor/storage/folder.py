"""The folder that a distributor owns: where things lie in it, and that only one serves it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sdk.base import (
    ConflictError,
    NotFoundError,
    UsageError,
    explain_os_error,
    sync_folder,
)

_FORMAT = "edge-distributor 1\n"


class DataFolder:
    """Paths within one data folder: ``catalog.db``, ``objects/``, ``work/``, ``format``."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.catalog = self.root / "catalog.db"
        self.objects = self.root / "objects"  # what obstore owns: blobs/ and staging/
        self.work = self.root / "work"  # of delta builds; of no value after a start
        self._format = self.root / "format"

    def create(self) -> bool:
        """Makes the folder; false where it is one of ours already.

        Raises: ConflictError (something else is in it), UsageError, ResourceError.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if self._format.exists():
                self.check()
                return False
            if any(self.root.iterdir()):
                raise ConflictError(
                    f"{self.root} is not empty and holds no distributor; name another folder"
                )
            self.objects.mkdir()
            self.work.mkdir()
            with self._format.open("x") as stream:
                stream.write(_FORMAT)
                stream.flush()
                os.fsync(stream.fileno())
            sync_folder(self.root)
            return True
        except FileExistsError:
            raise UsageError(f"{self.root} is a file; name a folder") from None
        except OSError as error:
            raise explain_os_error(error, self.root) from error

    def check(self) -> None:
        """Raises: NotFoundError (no distributor here), ConflictError (an unknown format)."""
        try:
            text = self._format.read_text()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(
                f"there is no distributor in {self.root}; "
                f"make one with: edge-distributor init --data {self.root}"
            ) from None
        if text != _FORMAT:
            raise ConflictError(f"{self._format} names a format that this release does not know")

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Holds the folder for this process, and empties what a killed one left in ``work``.

        Raises: ConflictError (another process has it).
        """
        with (self.root / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError(
                    f"another distributor serves {self.root}; stop it first"
                ) from None
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(exist_ok=True)
            yield
