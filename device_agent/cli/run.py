"""``edge-agent run``."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from device_agent.access import own_token
from device_agent.cli.enrolment import (
    enrolment_options,
    identified,
    look_for_root,
    make_store,
    named,
    read_newcomer,
)
from device_agent.cli.settings import config_options, read_config, with_free_port
from device_agent.config import AgentConfig, check_endpoint
from device_agent.metrics import check_metrics
from device_agent.rest import check_rest
from device_agent.store import Store
from device_agent.supervisor import Supervisor
from device_agent.trust import AssignmentKeeper, keep_factory_root
from edge_sdk.base import NotFoundError, explain_os_error
from edge_sdk.base.command import json_option, note, print_json
from edge_sdk.rpc import check_address, check_local


@click.command(
    "run", epilog="Example: edge-agent run --state ./state --device kiosk-7 --token-file token"
)
@config_options
@enrolment_options
@json_option
def run_agent(as_json: bool, **flags: Any) -> None:
    """Runs the agent until SIGTERM or Ctrl-C. Enrols first where this device is new."""
    newcomer = read_newcomer(flags)
    config, _ = read_config(flags, device_needed=False)
    config = named(config, newcomer)
    _check_addresses(config)
    check_metrics(config)
    check_rest(config)
    config = dataclasses.replace(
        config,  # both stay what they are when a process is started again
        local_address=with_free_port(config.agent_uri),
        inference_address=with_free_port(config.inference_uri),
        metrics_address=with_free_port(config.metrics_address) if config.metrics_address else "",
        rest_address=with_free_port(config.rest_address) if config.rest_address else "",
    )
    store = make_store(Path(config.state_dir))
    config = identified(config, store, newcomer)
    look_for_root(config, store, newcomer)
    doors = (config.agent_uri, config.inference_uri, config.rest_address)
    if not all(uri.startswith("unix:") for uri in doors if uri):
        # With it the agent's own commands and processes ask.
        own_token(Path(config.state_dir), make=True)
    AssignmentKeeper(store, config.device)  # says whose folder it is, before a process starts
    if config.root:
        _keep_root(store, Path(config.root))

    wanted = {"rest": config.rest_address, "metrics": config.metrics_address}

    def ready(agent_address: str, inference_address: str, doors: Mapping[str, str]) -> None:
        told = {"inference": inference_address, **doors}
        where = ", ".join(f"{name} at {address}" for name, address in told.items())
        note(f"agent of {config.device} at {agent_address}, {where}")
        missing = {n: address for n, address in wanted.items() if address and n not in doors}
        for name, address in missing.items():
            note(f"{name} does not answer at {address}; it is tried again and again")
        if as_json:
            document = {"agent_address": agent_address, "inference_address": inference_address}
            document |= {f"{name}_address": address for name, address in doors.items()}
            print_json({**document, "not_answering": sorted(missing), "pid": os.getpid()})
            sys.stdout.flush()

    code = Supervisor(config, on_ready=ready).run()
    if code:
        raise click.exceptions.Exit(code)


def _keep_root(store: Store, file: Path) -> None:
    """Raises: TrustError (no root), NotFoundError and others for a file that cannot be read."""
    try:
        keep_factory_root(store.files, store.root / "trust", file.read_bytes())
    except OSError as error:
        raise explain_os_error(error, file) from None


def _check_addresses(config: AgentConfig) -> None:
    """Said here at once, where the processes would only be started again and again.

    Raises: UsageError, RefusedError (beyond this machine), NotFoundError (no such folder).
    """
    collector = config.otlp_endpoint
    plain = check_endpoint(collector) if collector.startswith("http:") else ""
    for peer in (config.metrics_address, plain):
        if peer:
            check_local(peer)
    if config.distributor:
        check_address(config.distributor)
    for uri, given in (
        (config.agent_uri, config.local_address),
        (config.inference_uri, config.inference_address),
    ):
        check_local(uri)
        folder = Path(uri.removeprefix("unix:")).parent
        if given.startswith("unix:") and not folder.is_dir() and folder != Path(config.state_dir):
            raise NotFoundError(f"no folder {folder} for the socket of address {uri}")
