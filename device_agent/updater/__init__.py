"""Brings this device from what it runs to what it was assigned, and back where that is worse.

Alone writes journal and slots. Never serves a request, and never believes a byte that was
not proved against a manifest.
"""

from device_agent.updater.run import Updater

__all__ = ["Updater"]
