"""The agent's processes: keeps updater and inference alive, and nothing behind when it ends.

Never touches the store, a model or the network.
"""

from device_agent.supervisor.tree import Supervisor

__all__ = ["Supervisor"]
