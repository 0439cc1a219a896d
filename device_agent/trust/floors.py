"""The lowest version of each model that may ever run here. It only rises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from device_agent.errors import StateError
from device_agent.store.durable import write_whole
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import FormatError, Version


class Floors:
    """The same small file at each of ``paths``; what either says holds."""

    def __init__(self, files: FileSystem, paths: Sequence[Path]) -> None:
        self._files = files
        self._paths = paths

    def read(self) -> dict[str, Version]:
        """By model. Raises: StateError where there are files and none can be read."""
        there = [path for path in self._paths if self._files.exists(path)]
        read = [floors for floors in map(self._read, there) if floors is not None]
        if there and not read:
            raise StateError(f"{there[0]} is damaged, and so is its copy")
        merged: dict[str, Version] = {}
        for floors in read:
            merged = raised(merged, floors)
        return merged

    def raise_to(self, floors: Mapping[str, Version]) -> None:
        """Durable in every file; damaged ones are written anew. Raises: OSError."""
        try:
            known = self.read()
        except StateError:
            known = {}
        merged = raised(known, floors)
        if not merged:
            return
        marks = {model: str(floor) for model, floor in merged.items()}
        data = msgspec.json.encode(marks, order="sorted")
        for path in self._paths:
            if self._read(path) != merged:
                write_whole(self._files, path, data)

    def _read(self, path: Path) -> dict[str, Version] | None:
        try:
            said = msgspec.json.decode(self._files.read(path), type=dict[str, str])
            return {model: Version.parse(floor) for model, floor in said.items()}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, FormatError):
            return None


def raised(floors: Mapping[str, Version], by: Mapping[str, Version]) -> dict[str, Version]:
    """The higher of the two for each model."""
    merged = dict(floors)
    for model, floor in by.items():
        if model not in merged or floor > merged[model]:
            merged[model] = floor
    return merged
