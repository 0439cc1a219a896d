"""The command ``edge-agent`` and its sub-commands."""

from __future__ import annotations

import importlib

import click

from edge_sdk.base.command import run
from edge_sdk.base.garbage import importing

# Imported when it is asked for: ``run`` stays for as long as the device is on, and needs nothing
# of what measures and draws (half of its start, and 16 of its 56 MB).
_COMMANDS = {
    "apps": "device_agent.cli.apps:apps",
    "bench": "device_agent.cli.bench:bench",
    "config": "device_agent.cli.config_show:config",
    "doctor": "device_agent.cli.doctor:doctor",
    "enrol": "device_agent.cli.enrolment:enrol",
    "events": "device_agent.cli.events:events",
    "flame": "device_agent.cli.flame:flame",
    "identity": "device_agent.cli.enrolment:show_identity",
    "metadata": "device_agent.cli.metadata:metadata",
    "models": "device_agent.cli.models:models",
    "rollback": "device_agent.cli.rollback:rollback",
    "run": "device_agent.cli.run:run_agent",
    "status": "device_agent.cli.status:status",
    "top": "device_agent.cli.top:top",
    "tune": "device_agent.cli.tune:tune",
    "update": "device_agent.cli.update:update",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        with importing():
            command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, epilog="Example: edge-agent status")
@click.version_option(package_name="edge-model-sdk")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli() -> None:
    """Runs models on this device and keeps them up to date."""


def main() -> None:
    run(cli, "edge-agent")
