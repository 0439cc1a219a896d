"""``edge-agent status``."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from device_agent.cli.ask import agent, agent_options
from device_agent.cli.present import not_served, print_models
from edge_sdk.base import RefusedError, error_classes
from edge_sdk.base.command import bytes_text, json_option, print_json, printable


@click.command(epilog="Example: edge-agent status --state ./state --json")
@agent_options
@json_option
def status(state_dir: str | None, local_address: str | None, as_json: bool) -> None:
    """Says how the agent and its models are. Fails with the reason where one is not served."""
    with agent(state_dir, local_address) as questions:
        answer = questions.status()
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    for model in answer["models"]:
        if model["unserved_reason"]:
            error = error_classes().get(model["unserved_reason"], RefusedError)
            raise error(not_served(model))


def _print(answer: dict[str, Any]) -> None:
    reached = "connected" if answer["connected"] else "not connected"
    if answer["no_contact"] and answer["no_contact"]["refused"]:
        reached = "refuses this device"
    where = f"{answer['distributor']} ({reached})" if answer["distributor"] else "none"
    ready = "ready" if answer["inference_ready"] else "not ready"
    click.echo(f"device       {answer['device']} (agent {answer['agent_version']})")
    click.echo(f"distributor  {where}, assignment {answer['assignment_counter']}")
    if answer["no_contact"]:
        _print_no_contact(answer["no_contact"])
    if answer["refusal"]:
        click.echo(f"refused      {answer['refusal']}")
    click.echo(f"inference    {answer['inference_address']} ({ready})")
    click.echo(f"disk         {bytes_text(answer['disk_free_bytes'])} may be used")
    print_models(answer["models"])


def _print_no_contact(why: dict[str, Any]) -> None:
    since = dt.datetime.fromtimestamp(why["since_ms"] / 1000, dt.timezone.utc)
    what = "refused by it" if why["refused"] else "not reached"
    click.echo(f"contact      {what} since {since:%Y-%m-%d %H:%M:%SZ}: {printable(why['message'])}")
    click.echo(f"             {why['remedy']}")
