"""The chain of check-ins: each brings a fresh mark and the mark of the last one answered.

A copy of this device's key and state goes its own way from its first check-in on, and then the
distributor sees two ends of one chain.
"""

from __future__ import annotations

import secrets

from device_agent.identity.kept import KeptIdentity
from device_agent.store import Store
from device_agent.store.durable import write_whole

_BYTES = 32


class Marks:
    """Kept before they are sent: after a power cut the same pair is sent again."""

    def __init__(self, store: Store) -> None:
        self._files = store.files
        self._path = KeptIdentity(store).marks_path
        kept = self._files.read(self._path) if self._files.exists(self._path) else b""
        if len(kept) != 2 * _BYTES:  # torn or rotten; the distributor will not know us
            kept = b""
        self._previous, self._current = kept[:_BYTES], kept[_BYTES:]
        self._answered = not kept

    def next(self) -> tuple[bytes, bytes]:
        """``(previous, current)`` for a check-in; the same as before until that is answered."""
        if self._answered:
            fresh = secrets.token_bytes(_BYTES)
            # The first of all has no previous one: it is its own, and is accepted as such.
            previous = self._current or fresh
            try:
                write_whole(self._files, self._path, previous + fresh, private=True)
            except OSError:  # a full disk: the pair before is as good, for a repetition
                return self._previous, self._current
            self._previous, self._current = previous, fresh
            self._answered = False
        return self._previous, self._current

    def answered(self) -> None:
        """The distributor has taken the mark that was sent last."""
        self._answered = bool(self._current)
