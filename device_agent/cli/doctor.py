"""``edge-agent doctor``."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from device_agent.cli.settings import config_options, read_config
from device_agent.identity import KeptIdentity
from device_agent.store import Store
from device_agent.store.filesystem import FileSystem
from device_agent.trust import ROOT_MISSING, read_factory_root
from device_agent.updater.trial import find_engines
from edge_sdk.base import EdgeError, RefusedError
from edge_sdk.base.command import json_option, print_json, print_table


@click.command(epilog="Example: edge-agent doctor --state ./state")
@config_options
@json_option
def doctor(as_json: bool, **flags: Any) -> None:
    """Checks what the agent needs of this device. Changes nothing."""
    config, _ = read_config(flags, device_needed=False)
    root = Path(config.state_dir)
    found = [_check_folder(root), _check_links(root), _check_engines(), _check_trust(root)]
    found += _check_files(root)
    if as_json:
        print_json({"checks": found})
    else:
        rows = [["ok" if one["ok"] else "FAILED", one["what"], one["message"]] for one in found]
        print_table(["", "check", "found"], rows)
    bad = [one["what"] for one in found if not one["ok"]]
    if bad:
        raise RefusedError(f"not fit to run an agent: {', '.join(bad)}")


def _check(what: str, ok: bool, message: str) -> dict[str, Any]:
    return {"what": what, "ok": ok, "message": message}


def _check_folder(root: Path) -> dict[str, Any]:
    there = root.is_dir() and os.access(root, os.W_OK)
    return _check("state folder", there, str(root) if there else f"{root} cannot be written")


def _check_trust(root: Path) -> dict[str, Any]:
    """Without a whole one nothing new is believed; a device that is to be enrolled has none."""
    kept = read_factory_root(FileSystem(), root / "trust")
    if kept is None and not _is_enrolled(root):
        return _check("factory root", True, "none yet: enrol, or run with --root")
    damaged = "none" if kept is None else f"both copies in {root / 'trust'} are damaged"
    return _check("factory root", bool(kept), "kept" if kept else f"{damaged}: {ROOT_MISSING}")


def _is_enrolled(root: Path) -> bool:
    try:
        return KeptIdentity(Store(root)).load() is not None
    except EdgeError:  # it is damaged, which takes more than a root
        return True


def _check_links(root: Path) -> dict[str, Any]:
    """Trees are hard links; file systems such as vfat have none."""
    name = root / f".doctor-{secrets.token_hex(4)}"
    other = name.with_suffix(".link")
    try:
        name.write_bytes(b"")
        os.link(name, other)
    except OSError as error:
        return _check("hard links", False, f"{root}: {error.strerror}")
    finally:
        for made in (name, other):
            with suppress(OSError):  # the folder is none, or is not ours
                made.unlink()
    return _check("hard links", True, "work")


def _check_engines() -> dict[str, Any]:
    try:
        engines = find_engines()
    except EdgeError as error:
        return _check("engines", False, error.message)
    names = ", ".join(f"{engine.name} {engine.version}" for engine in engines)
    return _check("engines", True, names or "none; only models with 'serve: none' fit")


def _check_files(root: Path) -> list[dict[str, Any]]:
    """Proves what serves."""
    if not root.is_dir():
        return []
    store, found = Store(root), []
    for slot in store.slots():
        rotten = _rotten(store, slot.active)
        found.append(_check(slot.model, not rotten, rotten or f"{slot.active.short} proved"))
    return found


def _rotten(store: Store, artifact: Any) -> str:
    try:
        store.prove(artifact)
    except EdgeError as error:
        return error.message
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    return ""
