"""``edge-agent metadata``: the agent's client for signed metadata, by hand and by HTTP.

Options and exit codes (0 or 1) are those that conformance suites for such clients expect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_sdk.base import EdgeError, UsageError
from edge_sdk.base.command import PathArgument, json_option, note, print_json

if TYPE_CHECKING:
    from device_agent.trust.client import TrustedMetadata

_EXAMPLE = (
    "Example: edge-agent metadata --metadata-dir ./metadata --metadata-url "
    "https://host/metadata refresh"
)


@click.group(epilog=_EXAMPLE)
@click.option("--metadata-dir", required=True, type=PathArgument(), help="Where it is kept.")
@click.option("--metadata-url", help="Where it is served.")
@click.option("--target-name", help="The target's path in the metadata.")
@click.option("--target-dir", type=PathArgument(), help="Where files are downloaded to.")
@click.option("--target-base-url", help="Where files are served.")
@click.pass_context
def metadata(context: click.Context, /, **options: object) -> None:
    """Looks after a folder of signed metadata (The Update Framework) of any HTTP repository."""
    context.obj = options


@metadata.command(epilog="Example: edge-agent metadata --metadata-dir ./metadata init root.json")
@click.argument("root", type=PathArgument())
@json_option
@click.pass_obj
def init(options: dict[str, object], root: Path, as_json: bool) -> None:
    """Trust begins with the file ROOT."""
    from device_agent.trust.metadata_folder import MetadataFolder

    folder = _path(options, "metadata_dir")
    with _failing_with_one(as_json):
        MetadataFolder(folder).init(root.read_bytes())
    if as_json:
        print_json({"metadata_dir": str(folder)})


@metadata.command(epilog=_EXAMPLE)
@json_option
@click.pass_obj
def refresh(options: dict[str, object], as_json: bool) -> None:
    """Fetches what is newer, and keeps what is signed as it has to be."""
    with _failing_with_one(as_json):
        _client(options).refresh()
    if as_json:
        print_json({"metadata_dir": str(options["metadata_dir"])})


@metadata.command(epilog=_EXAMPLE.replace("refresh", "--target-name x ... download"))
@json_option
@click.pass_obj
def download(options: dict[str, object], as_json: bool) -> None:
    """Fetches a file that the metadata vouch for."""
    with _failing_with_one(as_json):
        file = _client(options).download(
            _text(options, "target_name"), _path(options, "target_dir")
        )
    if as_json:
        print_json({"file": str(file)})
    else:
        note(str(file))


def _client(options: dict[str, object]) -> TrustedMetadata:
    from device_agent.trust.metadata_folder import MetadataFolder, http_fetcher

    target_base_url = options["target_base_url"]
    return MetadataFolder(_path(options, "metadata_dir")).client(
        _text(options, "metadata_url"),
        http_fetcher(),
        target_base_url=None if target_base_url is None else str(target_base_url),
    )


def _text(options: dict[str, object], name: str) -> str:
    if options[name] is None:
        raise UsageError(f"give --{name.replace('_', '-')}")
    return str(options[name])


def _path(options: dict[str, object], name: str) -> Path:
    return Path(_text(options, name))


@contextmanager
def _failing_with_one(as_json: bool) -> Iterator[None]:
    """Whatever is refused or cannot be had ends with 1, as suites expect; not with our codes."""
    try:
        yield
    except UsageError:
        raise
    except (EdgeError, OSError) as error:
        note(f"edge-agent: {error}")
        if as_json:
            reason = error.reason if isinstance(error, EdgeError) else type(error).__name__
            print_json({"error": {"reason": reason, "message": str(error), "exit_code": 1}})
        raise click.exceptions.Exit(1) from None
