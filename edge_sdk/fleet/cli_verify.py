"""``edge-fleet verify``: proves a published artifact as a device would."""

from __future__ import annotations

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
from edge_sdk.evidence import load_policy
from edge_sdk.fleet.present import document
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
@click.option(
    "--evidence-policy",
    metavar="FILE",
    help="TOML file: evidence that has to be there, and whom to believe.",
)
@json_option
@click.option("--debug", is_flag=True, expose_value=False, hidden=True)
@click.pass_obj
def verify(
    target: Any,
    /,
    model: str,
    version: str,
    *,
    root: Path | None,
    evidence_policy: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Prove that a published version is what its publisher signed, byte for byte.

    Follows the signed metadata from the root to the manifest, fetches every file and hashes
    every chunk. Ends with 4 where a device would refuse it, or evidence is of somebody else;
    with 6 where evidence is missing.
    """
    trusted = _read(root) if root is not None else target.trusted_root()
    if trusted is None:
        raise RefusedError(
            "no root is trusted here to begin from: name one with --root, or your keys with --keys"
        )
    named = target.settings.get("evidence_policy", evidence_policy, "")
    policy = load_policy(Path(named)) if named else None
    with target.open() as fleet, progress("proving", None) as advance:
        proved = fleet.prove(
            model, version, root=trusted, evidence=policy, advance=advance, **chosen
        )
    if as_json:
        print_json({"proved": [document(one) for one in proved]})
        return
    for one in proved:
        floor = "" if one.floor is None else f", floor {one.floor}"
        click.echo(
            f"{one.model} {one.version} {one.variant} holds: artifact {one.artifact}, "
            f"{one.files} files, {bytes_text(one.size_bytes)}{floor}"
        )
        for each in one.evidence:
            by = f", built by {each.builder}" if each.builder else ""
            how = (
                f"signed by {each.signer}"
                if each.signer
                else "not proved: no --evidence-policy names who signed it"
            )
            click.echo(f"  evidence: {each.kind} {each.digest}{by}, {how}")


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(ROOT_BYTES_MAX + 1)
    except OSError as error:
        raise explain_os_error(error, file) from error
