"""The first level: answers in memory, within a budget of bytes; the one unused longest goes.

Not for several threads at once: whoever uses it holds a lock.
"""

from __future__ import annotations

from collections import OrderedDict

from device_agent.serving.cache.kept import Kept
from device_agent.serving.cache.request_key import RequestKey

ENTRY_BYTES = 1024  # what an entry costs beside its inputs and outputs, rounded up
# Requests that differ only between the sampled bytes share a hash (frames of a camera that
# looks at a still scene do); so many of them are kept, or each look-up would compare them all.
SAME_HASH_MAX = 8


class MemoryLevel:
    """``budget_bytes`` counts inputs, outputs and ``ENTRY_BYTES`` of each entry."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[RequestKey, Kept] = OrderedDict()
        self._same_hash: dict[int, list[RequestKey]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: RequestKey) -> Kept | None:
        kept = self._entries.get(key)
        if kept is not None:
            self._entries.move_to_end(key)
        return kept

    def put(self, key: RequestKey, kept: Kept) -> None:
        """What is larger than the whole budget is not kept."""
        self._remove(key)
        size_bytes = cost_bytes(key, kept)
        if size_bytes > self.budget_bytes:
            return
        same = self._same_hash.get(hash(key), [])
        if len(same) == SAME_HASH_MAX:
            self._remove(same[0])
        while self.used_bytes + size_bytes > self.budget_bytes:
            self._remove(next(iter(self._entries)))
        self._entries[key] = kept
        self._same_hash.setdefault(hash(key), []).append(key)
        self.used_bytes += size_bytes

    def clear(self) -> None:
        self._entries.clear()
        self._same_hash.clear()
        self.used_bytes = 0

    def _remove(self, key: RequestKey) -> None:
        kept = self._entries.pop(key, None)
        if kept is None:
            return
        self.used_bytes -= cost_bytes(key, kept)
        same = self._same_hash[hash(key)]
        same.remove(key)
        if not same:
            del self._same_hash[hash(key)]


def cost_bytes(key: RequestKey, kept: Kept) -> int:
    """What an entry counts against the budget."""
    return ENTRY_BYTES + key.size_bytes + kept.size_bytes
