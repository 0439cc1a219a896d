"""Removes what nothing reaches: not named by a slot, the journal, a pin or a held tree.

Can be cut anywhere: whatever is left over is unreachable still, and goes next time. Trees
go before manifests and manifests before blobs, so nothing reachable ever lacks its files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from device_agent.store.slots import Slot
from device_agent.store.store import Store
from edge_sdk.base import Digest, EdgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    trees: int
    artifacts: int
    blobs: int
    partials: int


def collect(
    store: Store,
    *,
    keep: Collection[Digest],
    partial: Collection[Digest],
    go_on: Callable[[], bool] = lambda: True,
) -> Collected:
    """``keep``: artifacts named by journal, pins and holds; those of slots are kept anyway.

    ``partial``: artifacts on their way. ``go_on`` is asked before each removal.
    """
    slots = store.slot_files.all_or_none()
    if slots is None:  # a slot that cannot be read may name anything that is here
        return Collected(trees=0, artifacts=0, blobs=0, partials=0)
    reached = {*keep, *partial, *_slot_artifacts(slots)}
    trees = [artifact for artifact in store.trees.all() if artifact not in reached]
    artifacts = [artifact for artifact in store.artifacts.all() if artifact not in reached]
    return Collected(
        trees=_each(trees, store.trees.remove, go_on) + _leftovers(store, go_on),
        artifacts=_each(artifacts, store.artifacts.remove, go_on),
        blobs=_blobs(store, reached, go_on),
        partials=_partials(store, partial, go_on),
    )


def _slot_artifacts(slots: Sequence[Slot]) -> set[Digest]:
    found: set[Digest] = set()
    for slot in slots:
        found.add(slot.active)
        if slot.previous is not None:
            found.add(slot.previous)
    return found


def _each(doomed: list[Digest], remove: Callable[[Digest], None], go_on: Callable[[], bool]) -> int:
    removed = 0
    for one in doomed:
        if not go_on():
            break
        remove(one)
        removed += 1
    return removed


def _blobs(store: Store, reached: set[Digest], go_on: Callable[[], bool]) -> int:
    """Files of artifacts that are kept stay; where one of those cannot be read, all stay."""
    needed: set[Digest] = set()
    for artifact in reached:
        if store.files.exists(store.artifacts.path(artifact)):
            try:
                needed.update(entry.digest for entry in store.manifest(artifact).files)
            except EdgeError:
                return 0
    for path in store.blobs.leftovers():
        store.files.unlink(path)
    return _each([one for one in store.blobs.all() if one not in needed], store.blobs.remove, go_on)


def _partials(store: Store, partial: Collection[Digest], go_on: Callable[[], bool]) -> int:
    wanted = {str(artifact) for artifact in partial}
    removed = 0
    for name in store.files.names(store.partial_folder):
        if name not in wanted and go_on():
            store.trees.remove_folder(store.partial_folder / name)
            removed += 1
    return removed


def _leftovers(store: Store, go_on: Callable[[], bool]) -> int:
    removed = 0
    for path in store.trees.leftovers():
        if not go_on():
            break
        if store.files.is_folder(path):
            store.trees.remove_folder(path)
        else:
            store.files.unlink(path)
        removed += 1
    return removed
