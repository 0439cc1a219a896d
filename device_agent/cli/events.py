"""``edge-agent events``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import click

from device_agent.cli.ask import agent, agent_options
from edge_sdk.base import UnavailableError
from edge_sdk.base.command import MODEL, json_option, print_json

_KEPT_WAIT_S = 1.5  # long enough for what is kept; only --follow waits for more


@click.command(epilog="Example: edge-agent events --model team/digits --follow")
@click.option(
    "--after", type=click.IntRange(0, 2**63 - 1), default=0, help="Number of the last one seen."
)
@click.option("--model", type=MODEL, help="Only of this model.")
@click.option("--follow", is_flag=True, help="Go on as they happen.")
@agent_options
@json_option
def events(
    *,
    after: int,
    model: str | None,
    follow: bool,
    state_dir: str | None,
    local_address: str | None,
    as_json: bool,
) -> None:
    """Shows what happened to the models of this device.

    With --json and --follow: one document a line, as they happen.
    """
    found = []
    with agent(state_dir, local_address) as questions:
        questions.models()  # whether an agent answers at all; silence below is no error
        try:
            for event in questions.events(
                after, model or "", wait_s=None if follow else _KEPT_WAIT_S
            ):
                found.append(event)
                if follow or not as_json:
                    click.echo(json.dumps(event, sort_keys=True) if as_json else _line(event))
        except UnavailableError:
            if follow:
                raise
    if as_json and not follow:
        print_json({"events": found})


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["at_ms"] / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    why = f"  {event['reason']}: {event['message']}" if event["reason"] else ""
    return f"{event['number']:>6}  {at}  {event['model']} {event['version']}  {event['state']}{why}"
