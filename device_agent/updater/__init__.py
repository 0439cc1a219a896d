"""Brings this device from what it runs to what it was assigned, and back where that is worse.

Alone writes journal and slots. Never serves a request, and never believes a byte that was
not proved against a manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device_agent.updater.run import Updater

__all__ = ["Updater"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: the trial's child lives in this room too, and must start
    # without the links and the store that only the updater needs.
    if name == "Updater":
        from device_agent.updater.run import Updater

        return Updater
    raise AttributeError(name)
