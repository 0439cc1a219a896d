"""Trees that applications use, which therefore stay in place."""

from __future__ import annotations

from collections.abc import Collection

from device_agent.records import HeldTree
from device_agent.store import Store
from edge_sdk.base import Digest, NotFoundError


class Leases:
    """By number, until they are let go or the updater ends."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[int, Digest] = {}
        self._number = 0

    @property
    def artifacts(self) -> Collection[Digest]:
        return self._held.values()

    def hold(self, model: str) -> HeldTree:
        """A lease on the active artifact's tree. Raises: NotFoundError."""
        slot = self._store.slot_files.get(model)
        artifact = None if slot is None else slot.starts_with or slot.active
        if artifact is None:
            raise NotFoundError(f"no model {model} on this device")
        manifest = self._store.manifest(artifact)
        self._number += 1
        self._held[self._number] = artifact
        return HeldTree(
            number=self._number,
            folder=str(self._store.tree(artifact).absolute()),
            version=str(manifest.version),
            artifact=artifact,
            files=tuple(entry.path for entry in manifest.files),
        )

    def let_go(self, number: int) -> None:
        self._held.pop(number, None)
