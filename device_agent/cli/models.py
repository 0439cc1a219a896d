"""``edge-agent models``."""

from __future__ import annotations

import click

from device_agent.cli.ask import agent, agent_options
from device_agent.cli.present import print_models
from edge_sdk.base.command import json_option, print_json


@click.command(epilog="Example: edge-agent models --state ./state")
@agent_options
@json_option
def models(state_dir: str | None, local_address: str | None, as_json: bool) -> None:
    """Lists the models of this device."""
    with agent(state_dir, local_address) as questions:
        found = questions.models()
    if as_json:
        print_json({"models": found})
    else:
        print_models(found)
