"""``edge-agent rollback``."""

from __future__ import annotations

import click

from device_agent.cli.ask import agent, agent_options
from edge_sdk.base.command import MODEL, json_option, print_json


@click.command(epilog="Example: edge-agent rollback team/digits --state ./state")
@click.argument("model", type=MODEL)
@agent_options
@json_option
def rollback(model: str, state_dir: str | None, local_address: str | None, as_json: bool) -> None:
    """Goes back to the version before, which is still here: nothing is sent."""
    with agent(state_dir, local_address) as questions:
        answer = questions.roll_back(model)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{model} goes back to {answer['version']}")
