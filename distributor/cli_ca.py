"""``edge-distributor ca``: the fleet's authorities, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_sdk.base import UsageError, explain_os_error
from edge_sdk.base.command import PathArgument, json_option, note, print_json, print_table

_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
_DATA = click.option(
    "--data",
    type=PathArgument(),
    default=Path("distributor-data"),
    envvar="EDGE_DISTRIBUTOR_DATA",
    help="Folder of the distributor.",
)


def _options(command: Any) -> Any:
    return _DATA(json_option(_DEBUG(command)))


@click.group(epilog="Example:  edge-distributor ca show --data ./distributor-data")
@_DEBUG
def ca() -> None:
    """Authorities that sign the certificates of devices, operators and listeners.

    A running distributor follows what changes here by itself.
    """


@ca.command("show", epilog="Example:  edge-distributor ca show --data ./distributor-data")
@_options
def show(data: Path, as_json: bool) -> None:
    """List the authorities, oldest first: the oldest vouches for listeners, the newest signs."""
    from distributor.identity import IdentityFolder

    known = IdentityFolder(data).load().known
    if as_json:
        rows = [
            {"fingerprint": one.fingerprint, "key_identifier": one.key_identifier} for one in known
        ]
        print_json({"authorities": rows})
        return
    uses = [["listeners"] if one is known[0] else [] for one in known]
    uses[-1].append("signs")
    print_table(
        ["fingerprint", "key identifier", "used for"],
        [
            [one.fingerprint, one.key_identifier, ", ".join(use) or "believed"]
            for one, use in zip(known, uses, strict=True)
        ],
    )


@ca.command(
    "add",
    epilog="""\b
Examples:
  edge-distributor ca add --data ./distributor-data
  edge-distributor ca add --certificate issuing.pem --key issuing.key
""",
)
@click.option("--certificate", type=PathArgument(), help="PEM: one given by somebody else.")
@click.option("--key", type=PathArgument(), help="PEM: its private key.")
@_options
def add(data: Path, certificate: Path | None, key: Path | None, as_json: bool) -> None:
    """Add an authority, which signs from now on. Devices move over as they renew."""
    from distributor.identity import IdentityFolder, load_authority, make_authority

    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key belong together")
    folder = IdentityFolder(data)
    folder.load()  # of a distributor that there is
    if certificate is None or key is None:
        made = make_authority()
    else:
        try:
            made = load_authority(certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise explain_os_error(error, Path(str(error.filename))) from None
    folder.add(made)
    if as_json:
        print_json({"fingerprint": made.fingerprint})
    else:
        note(f"{made.fingerprint} signs from now on; retire the oldest once devices have moved")


@ca.command("retire", epilog="Example:  edge-distributor ca retire 3f62a0c1")
@click.argument("fingerprint")
@_options
def retire(fingerprint: str, data: Path, as_json: bool) -> None:
    """Take the oldest authority away; its certificates open nothing any more.

    Who was off meanwhile proves its key and comes back by itself.
    """
    from distributor.identity import IdentityFolder

    gone = IdentityFolder(data).retire(fingerprint)
    if as_json:
        print_json({"retired": gone})
    else:
        note(f"{gone} is retired")
