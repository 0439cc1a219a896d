"""A question to the running agent, over AgentService."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from device_agent.cli.settings import read_config
from device_agent.local_api.asking import AgentQuestions
from edge_sdk.base import UnavailableError

Function = TypeVar("Function", bound=Callable[..., Any])


def agent_options(command: Function) -> Function:
    """Where the agent listens: its address, or its state folder."""
    command = click.option("--state", "state_dir", help="The agent's folder.")(command)
    return click.option("--local-address", help="Where its AgentService listens.")(command)


@contextmanager
def agent(state_dir: str | None, local_address: str | None) -> Iterator[AgentQuestions]:
    """Raises: UnavailableError where no agent answers there."""
    config, _ = read_config(
        {"state_dir": state_dir, "local_address": local_address}, device_needed=False
    )
    uri = config.agent_uri
    with AgentQuestions(uri) as questions:
        if uri.startswith("unix:") and not Path(uri.removeprefix("unix:")).exists():
            raise UnavailableError(
                f"no agent runs at {uri}: start it with 'edge-agent run', or say where it is "
                "with --state or --local-address"
            )
        yield questions
