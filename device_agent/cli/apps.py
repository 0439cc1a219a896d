"""``edge-agent apps``: who may ask over TCP."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from device_agent.access import ROLES, AppTokens
from device_agent.cli.settings import read_config
from edge_sdk.base import NotFoundError
from edge_sdk.base.command import PathArgument, json_option, note, print_json, print_table
from edge_sdk.base.files import refuse_unwritable, whole_file

_STATE = click.option("--state", "state_dir", help="The agent's folder.")


@click.group(epilog="Example: edge-agent apps add camera --role infer")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def apps() -> None:
    """Apps that ask over TCP: each has a token and roles.

    On Unix sockets no token is needed: there the socket's group says who may ask.
    """


@apps.command(epilog="Example: edge-agent apps add camera --role infer --output camera.token")
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True, type=click.Choice(ROLES), help="Repeatable."
)
@click.option("--output", type=PathArgument(), help="Write the token to this file (mode 0600).")
@_STATE
@json_option
def add(
    name: str, roles: tuple[Any, ...], output: Path | None, state_dir: str | None, as_json: bool
) -> None:
    """Makes a token for an app. It is shown once: only its digest is kept.

    The app finds it in EDGE_APP_TOKEN, or in the file that EDGE_APP_TOKEN_FILE names.
    """
    if output is not None:
        refuse_unwritable(output, replace=False)
    token = _tokens(state_dir).add(name, roles)
    if output is not None:
        with whole_file(output, replace=False) as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(f"{token}\n".encode())
    if as_json:
        print_json({"app": name, "roles": list(roles), "token": None if output else token})
    elif output is not None:
        note(f"the token of {name} is in {output}")
    else:
        click.echo(token)
        note(f"this is the token of {name}; it is not shown again")


@apps.command("list", epilog="Example: edge-agent apps list")
@_STATE
@json_option
def show(state_dir: str | None, as_json: bool) -> None:
    """Lists apps and their roles; tokens are kept nowhere."""
    found = [
        (one.name, one.roles, datetime.fromtimestamp(one.created_ms / 1000, timezone.utc))
        for one in _tokens(state_dir).apps()
    ]
    if as_json:
        documents = [
            {"app": name, "roles": list(roles), "since": since.isoformat()}
            for name, roles, since in found
        ]
        print_json({"apps": documents})
        return
    rows = [[name, ", ".join(roles), f"{since:%Y-%m-%d %H:%M}"] for name, roles, since in found]
    print_table(["app", "roles", "since (UTC)"], rows)


@apps.command(epilog="Example: edge-agent apps remove camera")
@click.argument("name")
@_STATE
@json_option
def remove(name: str, state_dir: str | None, as_json: bool) -> None:
    """Takes an app's token away, from its next call on."""
    _tokens(state_dir).remove(name)
    if as_json:
        print_json({"app": name, "removed": True})
    else:
        note(f"{name} has no way in from now on")


def _tokens(state_dir: str | None) -> AppTokens:
    """Raises: NotFoundError where there is no such folder."""
    config, _ = read_config({"state_dir": state_dir}, device_needed=False)
    state = Path(config.state_dir)
    if not state.is_dir():
        raise NotFoundError(f"no folder {state}: give the agent's with --state")
    return AppTokens(state)
