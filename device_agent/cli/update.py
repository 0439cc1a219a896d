"""``edge-agent update``."""

from __future__ import annotations

import click

from device_agent.cli.ask import agent, agent_options
from edge_sdk.base.command import json_option, print_json


@click.command(epilog="Example: edge-agent update --state ./state")
@agent_options
@json_option
def update(state_dir: str | None, local_address: str | None, as_json: bool) -> None:
    """Checks in with the distributor now."""
    with agent(state_dir, local_address) as questions:
        counter = questions.update_now()
    if as_json:
        print_json({"assignment_counter": counter})
    else:
        click.echo(f"checked in; assignment {counter}")
