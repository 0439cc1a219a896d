"""The agent's processes: keeps updater and inference alive, and nothing behind when it ends.

Never touches the store, a model or the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device_agent.supervisor.tree import Supervisor

__all__ = ["Supervisor"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: the processes that it starts live in this room too, and
    # what becomes the inference process needs nothing but to know whose child it is.
    if name == "Supervisor":
        from device_agent.supervisor.tree import Supervisor

        return Supervisor
    raise AttributeError(name)
