"""``edge-fleet operators`` and ``edge-fleet audit``: who may do what, and who did what."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_sdk.base import (
    EdgeError,
    FormatError,
    RefusedError,
    check_segment,
    explain_os_error,
    refuse_unwritable,
)
from edge_sdk.base.command import (
    NameArgument,
    PathArgument,
    json_option,
    note,
    print_json,
    print_table,
)
from edge_sdk.fleet.bearer import Bearer
from edge_sdk.fleet.cli_identity import keep_token
from edge_sdk.fleet.operators import Token
from edge_sdk.identity import Identity

_DAY_S = 86_400.0
_OPERATOR = NameArgument(lambda text: check_segment(text, "operator"))
_ROLE = click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE[@NAMESPACE]",
    help="viewer, publisher, deployer or admin; may be repeated.",
)


def _debug(command: Any) -> Any:
    return click.option("--debug", is_flag=True, expose_value=False, hidden=True)(command)


@click.group(epilog="Example:  edge-fleet operators add ada --role publisher@team")
@_debug
def operators() -> None:
    """Say who may operate the fleet, and as what.

    viewer sees, publisher publishes, deployer rolls out, admin does all and says who may do
    what; each in one namespace (publisher@team) or in all (publisher).
    """


@operators.command("list", epilog="Example:  edge-fleet operators list --json")
@json_option
@_debug
@click.pass_obj
def operators_list(target: Any, as_json: bool) -> None:
    """List operators with their roles."""
    with target.open() as fleet:
        found = fleet.operators.list()
    if as_json:
        print_json({"operators": [asdict(one) for one in found]})
        return
    rows = [[one.operator, _roles(one.roles), _time(one.added_ms), one.added_by] for one in found]
    print_table(["OPERATOR", "ROLES", "ADDED", "BY"], rows)


@operators.command(
    "add", epilog="Example:  edge-fleet operators add ada --role publisher@team --role viewer"
)
@click.argument("operator", type=_OPERATOR)
@_ROLE
@click.option(
    "--token-output", type=PathArgument(), help="New file with the token to log in with, once."
)
@json_option
@_debug
@click.pass_obj
def operators_add(
    target: Any, /, operator: str, roles: tuple[str, ...], token_output: Path | None, as_json: bool
) -> None:
    """Add OPERATOR with roles; they come in with the token, by edge-fleet login."""
    if token_output is not None:
        refuse_unwritable(token_output, replace=False)
    with target.open() as fleet:
        added = fleet.operators.add(operator, roles)
        if token_output is not None:
            try:
                text, made = fleet.identities.create_token(
                    kind="operator", name=operator, valid_s=_DAY_S
                )
                keep_token(fleet, made, text, token_output)
            except BaseException:
                with suppress(EdgeError):  # all of it or nothing: it can be run again
                    fleet.operators.remove(operator)
                raise
    _show(added, as_json=as_json)


@operators.command("roles", epilog="Example:  edge-fleet operators roles ada --role deployer@team")
@click.argument("operator", type=_OPERATOR)
@_ROLE
@json_option
@_debug
@click.pass_obj
def operators_roles(target: Any, operator: str, roles: tuple[str, ...], as_json: bool) -> None:
    """Replace all roles of OPERATOR; without --role it may do nothing any more."""
    with target.open() as fleet:
        _show(fleet.operators.set_roles(operator, roles), as_json=as_json)


@operators.command("remove", epilog="Example:  edge-fleet operators remove ada")
@click.argument("operator", type=_OPERATOR)
@json_option
@_debug
@click.pass_obj
def operators_remove(target: Any, operator: str, as_json: bool) -> None:
    """Remove OPERATOR with roles and tokens, from the next call on."""
    with target.open() as fleet:
        gone = fleet.operators.remove(operator)
    if as_json:
        print_json(asdict(gone))
    else:
        click.echo(f"{gone.operator} is no operator any more")


@operators.command("whoami", epilog="Example:  edge-fleet operators whoami")
@json_option
@_debug
@click.pass_obj
def operators_whoami(target: Any, as_json: bool) -> None:
    """Say who the distributor takes you for, and what you may do."""
    with target.open() as fleet:
        _show(fleet.operators.who_am_i(), as_json=as_json)


@operators.command(
    "token",
    epilog="""\b
Example:
  edge-fleet operators token --minutes 15 --role publisher@team --output ci-token
  EDGE_FLEET_BEARER_FILE=ci-token edge-fleet publish ...
""",
)
@click.option("--for", "operator", type=_OPERATOR, help="Another operator (admins).")
@_ROLE
@click.option("--minutes", type=click.FloatRange(min=0.1, max=1440), default=15, show_default=True)
@click.option("--purpose", default="", help="A few words for the audit log.")
@click.option("--output", type=PathArgument(), help="New file with all that a pipeline needs.")
@json_option
@_debug
@click.pass_obj
def operators_token(
    target: Any,
    /,
    operator: str | None,
    output: Path | None,
    minutes: float,
    as_json: bool,
    **values: Any,
) -> None:
    """Make a short-lived token for a pipeline; it allows no more than you may.

    Without --output the secret is printed on standard output, and nowhere else.
    """
    if output is not None:
        refuse_unwritable(output, replace=False)
        _check_logged_in(target)  # before there is a token that nobody gets to know
    with target.open() as fleet:
        made = fleet.operators.token(operator=operator or "", life_s=minutes * 60, **values)
    if output is not None:
        _bearer(target, made).save(output)
    if as_json:
        shown = {"secret": made.secret} if output is None else {"file": str(output)}
        rest = {"token": made.token, "roles": list(made.roles), "expires_ms": made.expires_ms}
        print_json(shown | rest)
    elif output is None:
        click.echo(made.secret)
    note(f"token {made.token}: {_roles(made.roles)}, until {_time(made.expires_ms)}")


def _check_logged_in(target: Any) -> Identity:
    own: Identity | None = target.own.load()
    if own is None:
        raise RefusedError(
            "nobody is logged in here, so a token file could not say whom to believe: "
            "edge-fleet login --token-file FILE"
        )
    return own


def _bearer(target: Any, made: Token) -> Bearer:
    """All that a pipeline needs beside the token. Raises: RefusedError."""
    own = _check_logged_in(target)
    if not made.address:
        raise RefusedError(
            "no file was written: the distributor takes no tokens (its setting token_address)"
        )
    return Bearer(
        address=made.address,
        authorities=own.authorities.decode(),
        secret=made.secret,
        expires_ms=made.expires_ms,
    )


@click.group(epilog="Example:  edge-fleet audit list --actor ada --last 20")
@_debug
def audit() -> None:
    """Read the log of every change, and prove that nobody rewrote it."""


@audit.command(
    "list", epilog="Example:  edge-fleet audit list --actor ada --action rollout.create --last 20"
)
@click.option("--actor", help="Only what this operator or device did.")
@click.option("--action", help="Only this, such as rollout.create or artifact.publish.")
@click.option("--object", "thing", help="Only what was done to this.")
@click.option(
    "--last", type=click.IntRange(min=1), default=100, show_default=True, help="So many at most."
)
@json_option
@_debug
@click.pass_obj
def audit_list(target: Any, /, last: int, as_json: bool, **wanted: str | None) -> None:
    """List entries of the log, oldest first."""
    wanted["object"] = wanted.pop("thing")
    with target.open() as fleet:
        found = deque(
            (
                one
                for one in fleet.audit.entries()
                if all(value in (None, getattr(one, key)) for key, value in wanted.items())
            ),
            maxlen=last,
        )
    if as_json:
        print_json({"entries": [msgspec.structs.asdict(one) for one in found]})
        return
    rows = [
        [
            str(one.number),
            _time(one.at_ms),
            f"{one.kind} {one.actor}",
            one.role or "-",
            one.action,
            one.object,
            " ".join(f"{key}={value}" for key, value in sorted(one.facts.items())),
        ]
        for one in found
    ]
    print_table(["ENTRY", "WHEN", "WHO", "ROLE", "WHAT", "OBJECT", "FACTS"], rows)


_KEY = click.option(
    "--key", metavar="TEXT", help="Public key of the log, from a source that you trust."
)


@audit.command("head", epilog="Example:  edge-fleet audit head > audit-head.txt")
@_KEY
@json_option
@_debug
@click.pass_obj
def audit_head(target: Any, key: str | None, as_json: bool) -> None:
    """Have the log's end signed now, and print the signed note.

    Keep it elsewhere: audit verify --head compares with it, whatever becomes of this machine.
    """
    with target.open() as fleet:
        signed = fleet.audit.head(_key(key))
    if as_json:
        print_json(
            {
                "origin": signed.head.origin,
                "size": signed.head.size,
                "digest": str(signed.head.digest),
                "at_ms": signed.head.at_ms,
                "note": signed.note,
                "key": str(signed.key),
            }
        )
    else:
        click.echo(signed.note, nl=False)


@audit.command("verify", epilog="Example:  edge-fleet audit verify --head audit-head.txt")
@_KEY
@click.option("--head", type=PathArgument(), help="A signed note that was kept elsewhere.")
@json_option
@_debug
@click.pass_obj
def audit_verify(target: Any, key: str | None, head: Path | None, as_json: bool) -> None:
    """Prove that no entry was changed, taken out or cut off since this machine looked last.

    Computes the hash chain again, checks the signatures of the heads, and compares with the
    head seen last, which is kept in EDGE_FLEET_HOME. Ends with 4 where anything is wrong.
    """
    kept_note = None if head is None else _read_note(head)
    with target.open() as fleet:
        verified = fleet.audit.verify(_key(key), kept_note=kept_note)
    compared = verified.compared
    kept = None if compared.kept is None else compared.kept.size
    if as_json:
        print_json(
            {
                "origin": compared.head.origin,
                "entries": compared.head.size,
                "head": str(compared.head.digest),
                "signed_heads": compared.heads,
                "compared_with": kept,
                "key": str(verified.key),
                "key_known": verified.known,
            }
        )
        return
    if not verified.known:
        note(f"edge-fleet: seen for the first time, believed and kept: key {verified.key}")
    seen = "nothing was seen before" if kept is None else f"it continues the {kept} seen before"
    click.echo(f"{compared.head.size} entries hold, {compared.heads} signed heads agree; {seen}")


def _read_note(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise explain_os_error(error, file) from error
    except UnicodeDecodeError:
        raise FormatError(f"{file} is no signed note") from None


def _key(text: str | None) -> Any:
    from edge_sdk.audit import VerifierKey

    return None if text is None else VerifierKey.parse(text)


def _show(one: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(one))
    else:
        how = f" (by {one.via})" if one.via else ""
        click.echo(f"{one.operator}{how}: {_roles(one.roles)}")


def _roles(roles: Any) -> str:
    return ", ".join(roles) or "no role"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
