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
    """Paths within one data folder: ``catalog.db``, ``objects/``, ``keys/``, ``work/``,
    ``format``, ``database``."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.catalog = self.root / "catalog.db"
        self.objects = self.root / "objects"  # what obstore owns: blobs/ and staging/
        self.keys = self.root / "keys"  # what the distributor signs with; made by its room
        self.work = self.root / "work"  # of delta builds; of no value after a start
        self.audit_key = self.root / "audit" / "key.pem"
        self.elsewhere = self.root / "database"  # where the catalog is, if not here
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
        except FileExistsError:
            raise UsageError(f"{self.root} is a file; name a folder") from None
        except OSError as error:
            raise explain_os_error(error, self.root) from error
        with self.discarded_on_failure():
            self._fill()
        return True

    def _fill(self) -> None:
        try:
            self.objects.mkdir()
            self.work.mkdir()
            with self._format.open("x") as stream:
                stream.write(_FORMAT)
                stream.flush()
                os.fsync(stream.fileno())
            sync_folder(self.root)
        except OSError as error:
            raise explain_os_error(error, self.root) from error

    @contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        """Empties the folder where the block fails: half a distributor must not stay, since
        the next ``create`` would take it for somebody else's."""
        try:
            yield
        except BaseException:
            for entry in list(self.root.iterdir()):
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
            raise

    def check(self) -> None:
        """Raises: NotFoundError (no distributor here), ConflictError (an unknown format)."""
        try:
            text = self._format.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(
                f"there is no distributor in {self.root}; "
                f"make one with: edge-distributor init --data {self.root}"
            ) from None
        except OSError as error:
            raise explain_os_error(error, self._format) from error
        if text != _FORMAT.encode():
            raise ConflictError(f"{self._format} names a format that this release does not know")
        if self.objects.exists() and not self.objects.is_dir():
            raise ConflictError(
                f"{self.objects} is no folder; put the one from before in its place"
            )

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
