"""The command ``edge-agent`` and its sub-commands."""

from __future__ import annotations

import click

from device_agent.cli.bench import bench
from device_agent.cli.config_show import config
from device_agent.cli.doctor import doctor
from device_agent.cli.events import events
from device_agent.cli.flame import flame
from device_agent.cli.metadata import metadata
from device_agent.cli.models import models
from device_agent.cli.rollback import rollback
from device_agent.cli.run import run_agent
from device_agent.cli.status import status
from device_agent.cli.top import top
from device_agent.cli.tune import tune
from device_agent.cli.update import update
from edge_sdk.base.command import run


@click.group(epilog="Example: edge-agent status")
@click.version_option(package_name="edge-model-sdk")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli() -> None:
    """Runs models on this device and keeps them up to date."""


for command in (
    *(run_agent, status, top, models, update, rollback, events, config, doctor, bench, tune, flame),
    metadata,
):
    cli.add_command(command)


def main() -> None:
    run(cli, "edge-agent")
