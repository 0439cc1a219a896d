"""A question to the running agent, over AgentService."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from device_agent.access import own_token, running_address
from device_agent.cli.settings import read_config
from device_agent.config import AgentConfig
from device_agent.local_api.asking import AgentQuestions
from edge_sdk.base import UnavailableError
from edge_sdk.rpc import app_token

Function = TypeVar("Function", bound=Callable[..., Any])


def agent_options(command: Function) -> Function:
    """Where the agent listens: its address, or its state folder."""
    command = click.option("--state", "state_dir", help="The agent's folder.")(command)
    return click.option("--local-address", help="Where its AgentService listens.")(command)


def shown_token(config: AgentConfig) -> str | None:
    """At an address that is no socket: that of the environment, else the agent's own."""
    if config.agent_uri.startswith("unix:"):
        return None
    return app_token() or own_token(Path(config.state_dir)) or None


def running_config(state_dir: str | None, local_address: str | None) -> AgentConfig:
    """Settings as they were given; where none names an address, that of the agent which runs."""
    config, _ = read_config(
        {"state_dir": state_dir, "local_address": local_address}, device_needed=False
    )
    if config.local_address:
        return config
    return dataclasses.replace(config, local_address=running_address(Path(config.state_dir)))


@contextmanager
def agent(state_dir: str | None, local_address: str | None) -> Iterator[AgentQuestions]:
    """Raises: UnavailableError where no agent answers there."""
    config = running_config(state_dir, local_address)
    uri = config.agent_uri
    with AgentQuestions(uri, shown_token(config)) as questions:
        if uri.startswith("unix:") and not Path(uri.removeprefix("unix:")).exists():
            raise UnavailableError(
                f"no agent runs at {uri}: start it with 'edge-agent run', or say where it is "
                "with --state or --local-address"
            )
        yield questions
