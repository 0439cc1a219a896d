"""``edge-fleet login`` and what ``edge-fleet devices`` does about tokens and certificates."""

from __future__ import annotations

import datetime as dt
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import click

from edge_sdk.base import EdgeError, RefusedError, UsageError, refuse_unwritable, whole_file
from edge_sdk.base.command import DEVICE, json_option, note, print_json, print_table
from edge_sdk.fleet.api import Fleet
from edge_sdk.fleet.cli_keys import warn_of_readers
from edge_sdk.fleet.identities import Enrolled, Token
from edge_sdk.fleet.own_identity import OwnIdentity
from edge_sdk.identity import EnrolmentToken

_DAY_S = 86_400.0
_TOKEN_VARIABLE = "EDGE_FLEET_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_BYTES_MAX = 8192
_STATES = ("pending", "approved", "active", "revoked", "cloned")


class Target(Protocol):
    """What the group ``edge-fleet`` hands to its commands."""

    operator: str
    own: OwnIdentity

    def open(self) -> Fleet: ...


def _debug(command: Any) -> Any:
    return click.option("--debug", is_flag=True, expose_value=False, hidden=True)(command)


def _without_root(command: Any) -> Any:
    return click.option(
        "--without-root", is_flag=True, help="Also while the fleet has no signed metadata yet."
    )(command)


@click.command(epilog="Example:  edge-fleet login --token-file first-operator.token")
@click.option(
    "--token-file", metavar="FILE", help="A token (-: standard input), or EDGE_FLEET_TOKEN."
)
@json_option
@_debug
@click.pass_obj
def login(target: Target, token_file: str | None, as_json: bool) -> None:
    """Come into a fleet as its operator; the key is made and stays on this machine."""
    identity = target.own.log_in(_read_token(token_file), target.operator)
    facts = identity.facts
    if as_json:
        print_json({"operator": facts.name, "distributor": identity.address})
        return
    until = dt.datetime.fromtimestamp(facts.not_after_s, dt.timezone.utc)
    click.echo(f"logged in as {facts.name} at {identity.address}, until {until:%Y-%m-%d}")


def _read_token(file: str | None) -> EnrolmentToken:
    given = os.environ.pop(_TOKEN_VARIABLE, "")
    if file is None and not given:
        raise UsageError("give the token: --token-file FILE (-: standard input)")
    if file is None:
        return EnrolmentToken.decode(given)
    if file == "-":
        return EnrolmentToken.decode(sys.stdin.read(_TOKEN_BYTES_MAX))
    warn_of_readers(Path(file))
    try:
        with Path(file).open(encoding="ascii", errors="replace") as stream:
            return EnrolmentToken.decode(stream.read(_TOKEN_BYTES_MAX))
    except OSError as error:
        raise UsageError(f"cannot read the token in {file}: {error.strerror}") from None


@click.group(epilog="Example:  edge-fleet devices token create --output gate-7.token")
@_debug
def token() -> None:
    """Tokens with which devices enrol."""


@token.command(
    "create",
    epilog="""\b
Examples:
  edge-fleet devices token create --name gate-7 --output gate-7.token
  edge-fleet devices token create --uses 500 --days 7 --approval > batch.token
""",
)
@click.option("--name", type=DEVICE, metavar="DEVICE", help="Only for this device.")
@click.option("--uses", type=click.IntRange(min=1), default=1, show_default=True, help="Devices.")
@click.option("--days", type=float, default=1.0, show_default=True, help="How long it is good.")
@click.option("--approval", is_flag=True, help="Whom it brings waits for 'devices approve'.")
@click.option("--output", metavar="FILE", help="Write it there, readable by you alone.")
@_without_root
@json_option
@_debug
@click.pass_obj
def token_create(
    target: Target,
    /,
    *,
    name: str | None,
    output: str | None,
    days: float,
    without_root: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Make a token and print it: it is a secret, and is shown only now."""
    if output is not None:
        refuse_unwritable(Path(output), replace=False)
    with target.open() as fleet:
        if not without_root:
            _check_root(fleet.identities.factory_token())
        text, made = fleet.identities.create_token(name=name or "", valid_s=days * _DAY_S, **asked)
        if output is not None:
            keep_token(fleet, made, text, Path(output))
    document = asdict(made)
    if as_json:
        print_json(document if output is not None else {**document, "text": text})
    elif output is None:
        click.echo(text)
    note(f"edge-fleet: token {made.token}, good until {_time(made.expires_ms)}")


def keep_token(fleet: Fleet, made: Token, text: str, file: Path) -> None:
    """Into a new file for its owner alone. A token that nobody gets to know is revoked.

    Raises: ConflictError, NotFoundError, ResourceError.
    """
    try:
        with whole_file(file, replace=False, private=True) as stream:
            stream.write(f"{text}\n".encode())
    except BaseException:
        with suppress(EdgeError):
            fleet.identities.revoke_token(made.token)
        raise


@token.command("factory", epilog="Example:  edge-fleet devices token factory > fleet.token")
@_without_root
@json_option
@_debug
@click.pass_obj
def token_factory(target: Target, without_root: bool, as_json: bool) -> None:
    """Print a token without a secret, for devices with a factory certificate (802.1AR)."""
    with target.open() as fleet:
        text = fleet.identities.factory_token()
    if not without_root:
        _check_root(text)
    if as_json:
        print_json({"text": text})
    else:
        click.echo(text)


def _check_root(text: str) -> None:
    """Of what a token would say now. Raises: RefusedError."""
    if not EnrolmentToken.decode(text).root:
        raise RefusedError(
            "the fleet has no root yet, so a token names none, and a device that comes with it "
            "installs nothing: first 'edge-fleet keys init' (or --without-root, where each device "
            "is given the root itself, or a newer token later)"
        )


@token.command("list", epilog="Example:  edge-fleet devices token list")
@json_option
@_debug
@click.pass_obj
def token_list(target: Target, as_json: bool) -> None:
    """List tokens, newest first; their secrets are kept nowhere."""
    with target.open() as fleet:
        found = fleet.identities.tokens()
    if as_json:
        print_json({"tokens": [asdict(one) for one in found]})
        return
    print_table(["token", "for", "used", "until", "by", ""], [_token_row(one) for one in found])


@token.command("revoke", epilog="Example:  edge-fleet devices token revoke 3f62a0c1d9e4")
@click.argument("name", metavar="TOKEN")
@json_option
@_debug
@click.pass_obj
def token_revoke(target: Target, name: str, as_json: bool) -> None:
    """Let TOKEN enrol nobody any more; whom it enrolled stays."""
    with target.open() as fleet:
        revoked = fleet.identities.revoke_token(name)
    if as_json:
        print_json(asdict(revoked))
    else:
        click.echo(f"token {revoked.token} is revoked; it enrolled {len(revoked.used_by)}")


@click.command("pending", epilog="Example:  edge-fleet devices pending")
@json_option
@_debug
@click.pass_obj
def pending(target: Target, as_json: bool) -> None:
    """List devices that wait to be let in."""
    _list(target, "pending", as_json=as_json)


@click.command("identities", epilog="Example:  edge-fleet devices identities --state cloned")
@click.option("--state", type=click.Choice(_STATES), help="Only these.")
@json_option
@_debug
@click.pass_obj
def identities(target: Target, state: str | None, as_json: bool) -> None:
    """List who is enrolled, how, and until when."""
    _list(target, state or "", as_json=as_json)


@click.command("approve", epilog="Example:  edge-fleet devices approve gate-7")
@click.argument("device", type=DEVICE)
@click.option("--factory-serial", default="", help="Only the one with this serial number.")
@json_option
@_debug
@click.pass_obj
def approve(target: Target, device: str, factory_serial: str, as_json: bool) -> None:
    """Let DEVICE in, which waits; or say now that it may come."""
    with target.open() as fleet:
        found = fleet.identities.approve(device, factory_serial=factory_serial)
    _show(found, as_json=as_json)


@click.command("revoke", epilog="Example:  edge-fleet devices revoke gate-7 --reason stolen")
@click.argument("device", type=DEVICE)
@click.option("--reason", default="", help="Free text, kept beside it.")
@json_option
@_debug
@click.pass_obj
def revoke(target: Target, device: str, reason: str, as_json: bool) -> None:
    """Believe DEVICE's key no more: its next call is refused, its streams end."""
    with target.open() as fleet:
        found = fleet.identities.revoke(device, reason=reason)
    _show(found, as_json=as_json)


devices_commands = (token, pending, identities, approve, revoke)


def _list(target: Target, state: str, *, as_json: bool) -> None:
    with target.open() as fleet:
        found = fleet.identities.identities(kind="device", state=state)
    if as_json:
        print_json({"identities": [asdict(one) for one in found]})
        return
    rows = [
        [one.name, one.state, one.how, _time(one.not_after_ms), one.reason or one.factory_serial]
        for one in found
    ]
    print_table(["device", "state", "came by", "certificate until", ""], rows)


def _show(found: Enrolled, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(f"{found.name} is {found.state}")


def _token_row(one: Token) -> list[str]:
    whom = one.name or f"any {one.kind}"
    used = f"{len(one.used_by)} of {one.uses}"
    notes = [
        text for text, is_so in (("approval", one.approval), ("revoked", one.revoked)) if is_so
    ]
    return [one.token, whom, used, _time(one.expires_ms), one.created_by, ", ".join(notes)]


def _time(at_ms: int) -> str:
    if not at_ms:
        return "-"
    return f"{dt.datetime.fromtimestamp(at_ms / 1000, dt.timezone.utc):%Y-%m-%d %H:%M}"
