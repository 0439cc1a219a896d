"""A question to the running agent, over AgentService."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from device_agent.cli.settings import read_config
from device_agent.local_api.asking import AgentQuestions

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
    with AgentQuestions(config.agent_uri) as questions:
        yield questions
