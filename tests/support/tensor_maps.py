"""Bytes as a model file, and what a reader finds in it."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.formats import TensorMap, open_model


def opened(folder: Path, content: bytes) -> TensorMap:
    """The map of a file with this content, whose name says nothing."""
    path = folder / "model.bin"
    path.write_bytes(content)
    return open_model(path)


def contents(found: TensorMap) -> dict[str, bytes]:
    """Name to bytes of each tensor."""
    return {
        one.name: (found.path.parent / one.file).read_bytes()[one.offset : one.end]
        for one in found.tensors
    }
