"""A file layer that never waits for the disk: for tests with thousands of runs."""

from __future__ import annotations

from pathlib import Path

from device_agent.store.filesystem import FileSystem


class UnsyncedFiles(FileSystem):
    """What was written is there; whether it would survive a power cut is no claim of theirs."""

    def sync_file(self, path: Path) -> None:
        pass

    def sync_handle(self, handle: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass
