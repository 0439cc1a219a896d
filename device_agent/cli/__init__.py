"""``edge-agent``: one file per command."""

from device_agent.cli.program import cli, main

__all__ = ["cli", "main"]
