"""A file layer that writes down each operation, and can fail at one."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_agent.store.filesystem import FileSystem

CHANGES = (
    *("make_folder", "write", "append", "open_update", "write_at", "truncate"),
    *("rename", "link", "unlink", "remove_folder", "make_read_only"),
    "close_to_others",
    *("make_private_folder", "write_private"),
    *("sync_file", "sync_handle", "sync_folder"),
)


class Cut(BaseException):
    """The power is gone: nothing of ours runs afterwards."""


class RecordingFiles(FileSystem):
    """``log`` holds (operation, names). ``cut_at`` ends before that operation (from 0);
    ``fail`` may give an errno for an operation."""

    def __init__(self, *, cut_at: int | None = None) -> None:
        self.log: list[tuple[str, tuple[str, ...]]] = []
        self.cut_at = cut_at
        self.fail: Callable[[str, tuple[Any, ...]], int | None] = lambda name, arguments: None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CHANGES:
            return found

        def recorded(*arguments: Any) -> Any:
            if self.cut_at is not None and len(self.log) == self.cut_at:
                raise Cut
            number = self.fail(name, arguments)
            if number is not None:
                raise OSError(number, errno.errorcode[number], str(arguments[0]))
            names = tuple(one.name for one in arguments if isinstance(one, Path))
            self.log.append((name, names))
            return found(*arguments)

        return recorded

    def operations(self) -> list[str]:
        return [name for name, _ in self.log]
