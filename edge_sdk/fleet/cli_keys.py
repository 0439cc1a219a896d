"""``edge-fleet keys``: the keys of people and pipelines."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from edge_sdk.base import UsageError, check_segment, others_can_read
from edge_sdk.base.command import NameArgument, PathArgument, json_option, note, print_json
from edge_sdk.fleet.first_keys import begin
from edge_sdk.fleet.key_folder import KeyFolder
from edge_sdk.trust import NAMESPACE_PREFIX, environment_passphrase


def named_namespace(text: str) -> str:
    """Raises: UsageError (a role where a namespace is meant: it would get one called so)."""
    name = check_segment(text, "namespace")
    if name.startswith(NAMESPACE_PREFIX):
        raise UsageError(
            f"{name} is the role of a namespace; name the namespace itself: "
            f"{name.removeprefix(NAMESPACE_PREFIX)}"
        )
    return name


_NAMESPACE = NameArgument(named_namespace)


def keys_option(command: Any) -> Any:
    """Which folder of keys; a setting too."""
    return click.option(
        "--keys",
        "folder",
        type=PathArgument(),
        metavar="FOLDER",
        help="Keys to sign with (also EDGE_FLEET_KEYS).",
    )(command)


def warn_of_readers(file: Path) -> None:
    """Says where a secret can be read by others; it may have to be so, as in a container."""
    if others_can_read(file):
        note(f"edge-fleet: others here can read the secret in {file}: chmod 600 {file}")


def ask_passphrase(name: str) -> bytes:
    """From the environment, or of whoever sits at the terminal. Never from an argument.

    Raises: UsageError (neither).
    """
    found = environment_passphrase(name)
    if found is not None:
        if not os.environ.get("EDGE_KEY_PASSPHRASE"):
            warn_of_readers(Path(os.environ["EDGE_KEY_PASSPHRASE_FILE"]))
        return found
    if not sys.stdin.isatty():
        raise UsageError(
            f"the {name} of the keys is needed: set EDGE_KEY_PASSPHRASE_FILE to a file with it, "
            "or EDGE_KEY_PASSPHRASE"
        )
    return str(click.prompt("passphrase of the keys", hide_input=True, err=True)).encode()


def ask_new_passphrase(name: str) -> bytes:
    """As ``ask_passphrase``, but typed twice."""
    found = environment_passphrase(name)
    if found is not None or not sys.stdin.isatty():
        return ask_passphrase(name)
    text = click.prompt(
        "new passphrase for the keys", hide_input=True, confirmation_prompt=True, err=True
    )
    return str(text).encode()


def chosen_folder(settings: Any, flag: Path | None) -> Path | None:
    """The folder of keys from the flag, EDGE_FLEET_KEYS or the file; None: nobody said one."""
    text = settings.get("keys", None if flag is None else str(flag), "")
    return Path(text) if text else None


@click.group(epilog="Example:  edge-fleet keys init --keys ~/edge-keys --namespace team")
@click.option("--debug", is_flag=True, expose_value=False, hidden=True)
def keys() -> None:
    """Make and change the keys that sign."""


@keys.command(
    epilog="""\b
Example:
  EDGE_KEY_PASSPHRASE_FILE=~/.edge-passphrase \\
      edge-fleet keys init --keys ~/edge-keys --namespace team

One person, one machine: a root key, a targets key and a key for each namespace, each in a
file encrypted with one passphrase. Run it once, at the beginning. root.json is what devices
are given; keep root.key and targets.key off this machine afterwards.
"""
)
@keys_option
@click.option("--namespace", "namespaces", type=_NAMESPACE, multiple=True, required=True)
@json_option
@click.option("--debug", is_flag=True, expose_value=False, hidden=True)
@click.pass_obj
def init(target: Any, folder: Path | None, namespaces: tuple[str, ...], as_json: bool) -> None:
    """Make the first keys, and the first signed metadata of a distributor."""
    place = chosen_folder(target.settings, folder)
    if place is None:
        raise UsageError("where shall the keys be? name a folder with --keys")
    exists = (place / "keys.json").exists()
    held = KeyFolder(place, ask_passphrase if exists else ask_new_passphrase)
    with target.open() as fleet:
        root = begin(fleet.metadata, held, namespaces)
    digest = hashlib.sha256(root).hexdigest()
    if as_json:
        print_json(
            {
                "keys": str(place),
                "root": str(place / "root.json"),
                "root_sha256": digest,
                "namespaces": list(namespaces),
            }
        )
        return
    note(f"{place} has the keys; devices are given {place / 'root.json'} ({digest[:12]})")
    note("take root.key and targets.key off this machine: publishing needs neither")
