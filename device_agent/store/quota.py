"""How much room there is: the disk's, and what the store may use of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from device_agent.store.store import Store

CACHE_FOLDER = "cache"  # the inference process keeps answers there: files of fixed size
PLANS_FOLDER = "plans"  # what engines make of models for this device alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """``free_bytes``: may still be written, the reserve taken off."""

    free_bytes: int
    used_bytes: int


def room(store: Store, *, quota_bytes: int, reserve_bytes: int) -> Room:
    """``quota_bytes`` 0: no quota of ours. ``reserve_bytes`` stay free for journal and slots."""
    used = used_bytes(store)
    free = store.files.free_bytes(store.root) - reserve_bytes
    if quota_bytes:
        free = min(free, quota_bytes - used)
    return Room(free_bytes=max(free, 0), used_bytes=used)


def used_bytes(store: Store) -> int:
    """Bytes of blobs, partials, kept answers and plans; trees are links and cost nothing."""
    lasting = (
        size
        for name in ("blobs", CACHE_FOLDER, PLANS_FOLDER)
        for size in _sizes(store, store.root / name)
    )
    return sum(lasting) + sum(
        size
        for name in store.files.names(store.partial_folder)
        for size in _sizes(store, store.partial_folder / name)
    )


def _sizes(store: Store, folder: Path) -> list[int]:
    return [_size(store, folder / name) for name in store.files.names(folder)]


def _size(store: Store, path: Path) -> int:
    """Another process may take a plan or a partial away meanwhile."""
    try:
        return store.files.size_bytes(path)
    except FileNotFoundError:
        return 0
