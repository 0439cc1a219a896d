"""``edge-agent config show``."""

from __future__ import annotations

from typing import Any

import click

from device_agent.cli.settings import config_options, read_config
from edge_sdk.base.command import json_option, print_json, print_table


@click.group(epilog="Example: edge-agent config show")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def config() -> None:
    """The configuration."""


@config.command(epilog="Example: edge-agent config show --config agent.toml --json")
@config_options
@json_option
def show(as_json: bool, **flags: Any) -> None:
    """Says each setting and where it came from."""
    _, settings = read_config(flags, device_needed=False)
    shown = settings.shown()
    if as_json:
        print_json(shown)
        return
    rows = [[key, str(one["value"]), one["from"]] for key, one in shown.items()]
    print_table(["setting", "value", "from"], rows)
