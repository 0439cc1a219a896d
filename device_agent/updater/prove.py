"""Reads back what was written, and proves sources again after something went wrong.

Runs on a background thread: reads only.
"""

from __future__ import annotations

from collections.abc import Iterable

from device_agent.store import Store
from device_agent.store.blobs import good_chunks
from device_agent.store.partial import Partial
from edge_sdk.base import Digest


def read_back(partial: Partial, store: Store) -> int:
    """How many chunks from the start stand on this device as the manifest wants them.

    Every byte of a target is read from its file once more before it gets its name, so that
    what was changed between write and now never becomes a model.
    """
    good = 0
    for number, entry in enumerate(partial.entries):
        if number in partial.present:
            found = 0 if store.blobs.is_rotten(entry.digest) else len(entry.chunks)
        else:
            path = partial.path(number)
            found = good_chunks(store.files, path, entry.chunks)
            if found and store.files.size_bytes(path) != entry.size_bytes:
                found = min(found, len(entry.chunks) - 1)  # bytes follow: it was not the last
        good += found
        if found < len(entry.chunks):
            break
    return good


def rotten(store: Store, files: Iterable[Digest]) -> tuple[Digest, ...]:
    """Those of the held files that no longer are what they were; each is read whole."""
    return tuple(file for file in dict.fromkeys(files) if store.blobs.is_rotten(file))
