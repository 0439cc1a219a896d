"""Begins calls, and none on a channel that is closed: grpcio 1.85 crashes the process on that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from edge_sdk.base import UnavailableError

T = TypeVar("T")


class Calls:
    """Shared by all that use a link's channels; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False

    def begin(self, call: Callable[[], T]) -> T:
        """What ``call`` gives; it must not wait. Raises: UnavailableError after ``end``."""
        with self._lock:
            if self._closed:
                raise UnavailableError("the connection to the distributor was closed")
            return call()

    def check(self) -> None:
        """Before a call that is begun and waited for in one. Raises: UnavailableError."""
        self.begin(lambda: None)

    def end(self, close: Callable[[], object]) -> None:
        """None is begun while ``close`` runs, nor afterwards."""
        with self._lock:
            self._closed = True
            close()
