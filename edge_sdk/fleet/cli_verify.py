"""``edge-fleet verify``: proves a published artifact as a device would."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_sdk.base import RefusedError, check_segment, explain_os_error
from edge_sdk.base.command import (
    MODEL,
    VERSION,
    NameArgument,
    PathArgument,
    bytes_text,
    json_option,
    print_json,
    progress,
)
from edge_sdk.trust import ROOT_BYTES_MAX


@click.command(epilog="Example:  edge-fleet verify team/digits 2.0.0 --root root.json")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "--variant",
    type=NameArgument(lambda text: check_segment(text, "variant")),
    help="Only this one.",
)
@click.option(
    "--root",
    type=PathArgument(),
    help="Root metadata to begin from; by default the one that your keys trust.",
)
@json_option
@click.option("--debug", is_flag=True, expose_value=False, hidden=True)
@click.pass_obj
def verify(
    target: Any, /, model: str, version: str, *, root: Path | None, as_json: bool, **chosen: Any
) -> None:
    """Prove that a published version is what its publisher signed, byte for byte.

    Follows the signed metadata from the root to the manifest, fetches every file and hashes
    every chunk. Ends with 4 where a device would refuse it.
    """
    trusted = _read(root) if root is not None else target.trusted_root()
    if trusted is None:
        raise RefusedError(
            "no root is trusted here to begin from: name one with --root, or your keys with --keys"
        )
    with target.open() as fleet, progress("proving", None) as advance:
        proved = fleet.prove(model, version, root=trusted, advance=advance, **chosen)
    if as_json:
        print_json({"proved": [{**asdict(one), "artifact": str(one.artifact)} for one in proved]})
        return
    for one in proved:
        floor = "" if one.floor is None else f", floor {one.floor}"
        click.echo(
            f"{one.model} {one.version} {one.variant} holds: artifact {one.artifact}, "
            f"{one.files} files, {bytes_text(one.size_bytes)}{floor}"
        )


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(ROOT_BYTES_MAX + 1)
    except OSError as error:
        raise explain_os_error(error, file) from error
