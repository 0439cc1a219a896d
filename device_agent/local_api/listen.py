"""Where AgentService listens: a socket for each role that has a group, or a loopback port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from device_agent.access import Access, AppTokens, Guard, access_of
from device_agent.config import AgentConfig, check_address
from edge_sdk.rpc import check_local


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One address, who may connect there and what they may call."""

    uri: str
    access: Access
    guard: Guard


def places(config: AgentConfig) -> tuple[Place, ...]:
    """The first is the owner's and the technicians'. Raises: UsageError, RefusedError."""
    uri, local = config.agent_uri, config.local
    check_address(uri)
    check_local(uri)
    unix = uri.startswith("unix:")
    guard = Guard(["control"]) if unix else Guard(tokens=AppTokens(Path(config.state_dir)))
    found = [Place(uri=uri, access=access_of(local.control_group), guard=guard)]
    if config.observe_uri:
        access = access_of(local.observe_group)
        found.append(Place(uri=config.observe_uri, access=access, guard=Guard(["observe"])))
    if config.apps_uri:
        access = access_of(local.infer_group)
        found.append(Place(uri=config.apps_uri, access=access, guard=Guard(["infer"])))
    return tuple(found)
