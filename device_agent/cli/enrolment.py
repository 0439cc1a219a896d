"""``edge-agent enrol`` and ``edge-agent identity``, and how ``run`` comes to its identity."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from device_agent.cli.settings import check_named, read_config
from device_agent.config import AgentConfig
from device_agent.errors import StateError
from device_agent.identity import KeptIdentity, enrol_device, newer_root, read_token
from device_agent.store import Store
from device_agent.store.durable import make_folder
from device_agent.trust import ROOT_MISSING, keep_factory_root, read_factory_root
from edge_sdk.base import EdgeError, UnavailableError, UsageError, explain_os_error
from edge_sdk.base.command import PathArgument, json_option, note, print_json
from edge_sdk.identity import EnrolmentToken, FactoryKey
from edge_sdk.rpc import allow_plaintext, check_address, plaintext_for_tests

Function = TypeVar("Function", bound=Callable[..., Any])


def enrolment_options(command: Function) -> Function:
    """How a device that has no identity yet comes to one."""
    options = [
        click.option(
            "--token-file",
            metavar="FILE",
            help="Enrolment token (-: standard input), or EDGE_AGENT_TOKEN; used once.",
        ),
        click.option(
            "--factory-certificate", type=PathArgument(), help="PEM: 802.1AR, with its issuers."
        ),
        click.option("--factory-key", type=PathArgument(), help="PEM: its private key."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """What a device that is not enrolled was given to enrol with."""

    token: EnrolmentToken | None
    factory: FactoryKey | None


def read_newcomer(flags: dict[str, Any]) -> Newcomer:
    """Takes the options of ``enrolment_options`` out of ``flags``. Raises: UsageError,
    FormatError."""
    certificate, key = flags.pop("factory_certificate"), flags.pop("factory_key")
    token = read_token(flags.pop("token_file"), lambda text: note(f"edge-agent: {text}"))
    if bool(certificate) != bool(key):
        raise UsageError("--factory-certificate and --factory-key belong together")
    if certificate and token is None:
        raise UsageError("a factory certificate says who the device is, and a token whom to call")
    if token is not None and not token.secret and not certificate:
        raise UsageError("this token is for devices with a --factory-certificate")
    factory = None
    if certificate:
        try:
            factory = FactoryKey(chain=certificate.read_bytes(), key=key.read_bytes())
        except OSError as error:
            raise explain_os_error(error, Path(str(error.filename))) from None
    return Newcomer(token=token, factory=factory)


def named(config: AgentConfig, newcomer: Newcomer) -> AgentConfig:
    """With the device's name: as given, as kept, or as the token says. Raises: UsageError."""
    shown = KeptIdentity(Store(Path(config.state_dir))).shown()
    from_token = newcomer.token.name if newcomer.token is not None else ""
    config = dataclasses.replace(config, device=config.device or shown.name or from_token)
    check_named(config)
    return config


def identified(
    config: AgentConfig, store: Store, newcomer: Newcomer, *, wait: bool = True
) -> AgentConfig:
    """Enrols where that has not happened, and says as whom and to whom this agent speaks.

    Raises: StateError, UsageError (no identity and nothing to enrol with), TrustError,
    ConflictError, RefusedError; UnavailableError where ``wait`` is false.
    """
    kept = KeptIdentity(store)
    kept.close_to_others(lambda text: note(f"edge-agent: {text}"))
    identity = kept.load()
    if identity is None and newcomer.token is not None:
        try:
            identity = enrol_device(
                kept,
                newcomer.token,
                config.device,
                factory=newcomer.factory,
                wait=wait,
                keep_root=lambda root: _keep_root(store, root),
                say=lambda text: note(f"edge-agent: {text}"),
                chance=random.random,
            )
        except OSError as error:  # a write that fails does not say of which file
            raise explain_os_error(error, Path(error.filename or kept.root)) from error
        if identity is None:
            raise UnavailableError(
                f"{config.device} waits for an operator: edge-fleet devices approve "
                f"{config.device}; then run this again"
            )
        note(f"edge-agent: enrolled as {config.device} with the distributor at {identity.address}")
    if identity is None:
        _check_without(config)
        return config
    if identity.facts.name != config.device:
        raise StateError(
            f"{kept.root} belongs to device {identity.facts.name!r}, not {config.device!r}: give "
            "its own name or another folder"
        )
    return dataclasses.replace(config, distributor=config.distributor or identity.address)


def _keep_root(store: Store, root: bytes) -> None:
    """To begin from; one that the device has already stays."""
    folder = store.root / "trust"
    if not read_factory_root(store.files, folder):
        make_folder(store.files, folder)
        keep_factory_root(store.files, folder, root)


def take_root(config: AgentConfig, store: Store, newcomer: Newcomer) -> None:
    """Where the device came in before the fleet had a root, a newer token brings it.

    Raises: UsageError, TrustError, UnavailableError, ResourceError.
    """
    identity = KeptIdentity(store).load()
    if newcomer.token is None or identity is None or _has_root(store):
        return
    root = newer_root(identity, newcomer.token)
    try:
        _keep_root(store, root)
    except OSError as error:
        raise explain_os_error(error, Path(error.filename or store.root)) from error
    note(f"edge-agent: {config.device} took the fleet's root from the token")


def look_for_root(config: AgentConfig, store: Store, newcomer: Newcomer) -> None:
    """What the device holds is served also where the token is no good for that."""
    try:
        if newcomer.token is not None and newcomer.token.root:
            take_root(config, store, newcomer)
    except EdgeError as error:
        note(f"edge-agent: no factory root came with the token: {error.message}")
    warn_without_root(config, store)


def warn_without_root(config: AgentConfig, store: Store) -> None:
    """Enrolled, connected, and yet nothing will ever be installed: that is said at once."""
    if config.distributor and not config.root and not _has_root(store):
        note(f"edge-agent: {config.device} has no whole factory root: {ROOT_MISSING}")


def _has_root(store: Store) -> bool:
    return bool(read_factory_root(store.files, store.root / "trust"))


def _check_without(config: AgentConfig) -> None:
    """An agent without an identity serves what it holds, and speaks to no distributor."""
    if not config.distributor:
        return
    check_address(config.distributor)
    if not plaintext_for_tests():
        raise UsageError(
            f"this device is not enrolled, and nobody knows it at {config.distributor}: give "
            "--token-file FILE (an operator makes one: edge-fleet devices token create)"
        )
    allow_plaintext(config.distributor)


@click.command(epilog="Example: edge-agent enrol --state ./state --device kiosk-7 --token-file -")
@click.option("--state", "state_dir", help="Folder for models and state.")
@click.option("--device", help="This device's name.")
@click.option("--config", "file", type=PathArgument(), help="A TOML file.")
@click.option("--wait/--no-wait", default=True, help="For the network, or for an operator.")
@enrolment_options
@json_option
def enrol(as_json: bool, wait: bool, **flags: Any) -> None:
    """Gives this device an identity. 'run' does the same when it has none.

    To one that came in before its fleet had a root, a newer token brings that.
    """
    newcomer = read_newcomer(flags)
    config, _ = read_config(flags, device_needed=False)
    config = named(config, newcomer)
    store = make_store(Path(config.state_dir))
    known = KeptIdentity(store).load() is not None
    if newcomer.token is None and not known:
        raise UsageError("give the token: --token-file FILE (-: standard input)")
    config = identified(config, store, newcomer, wait=wait)
    if known:
        take_root(config, store, newcomer)
    warn_without_root(config, store)
    _show(KeptIdentity(store), as_json=as_json)


@click.command("identity", epilog="Example: edge-agent identity --state ./state --json")
@click.option("--state", "state_dir", help="Folder for models and state.")
@click.option("--config", "file", type=PathArgument(), help="A TOML file.")
@json_option
def show_identity(as_json: bool, **flags: Any) -> None:
    """Says who this device is, until when, and whom it trusts. Shows no secret."""
    config, _ = read_config(flags, device_needed=False)
    _show(KeptIdentity(Store(Path(config.state_dir))), as_json=as_json)


def make_store(root: Path) -> Store:
    """Raises: UsageError, ResourceError, StateError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        return Store.create(root)
    except FileExistsError:
        raise UsageError(f"{root} is no folder; name one for --state") from None
    except OSError as error:
        raise explain_os_error(error, root) from None


def _show(kept: KeptIdentity, *, as_json: bool) -> None:
    shown = kept.shown()
    facts = shown.certificate
    document: dict[str, Any] = {
        "state": shown.state,
        "device": shown.name,
        "distributor": shown.address,
        "enrolment_address": shown.enrolment_address,
        "authorities": list(shown.authorities),
    }
    if facts is not None:
        document |= {
            "serial": facts.serial,
            "key": facts.key,
            "not_before": _time(facts.not_before_s),
            "not_after": _time(facts.not_after_s),
            "expired_by_this_clock": time.time() >= facts.not_after_s,
            "clock_is_before_it": time.time() < facts.not_before_s,
        }
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        click.echo(f"{key.replace('_', ' '):22} {text}")


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat()
