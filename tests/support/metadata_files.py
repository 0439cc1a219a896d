"""Whoever serves metadata, as a mapping of files."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.base import NotFoundError


class MetadataFiles:
    """Files by name, from a mapping that a test may change; ``asked`` lists the names."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def fetch(self, name: str) -> Iterator[bytes]:
        self.asked.append(name)
        if name not in self.files:
            raise NotFoundError(name)
        yield self.files[name]
