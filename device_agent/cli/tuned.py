"""What ``edge-agent tune`` kept takes its place: below what was set, above the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_agent.tuning import Tuned, basis_here, read_kept, why_not
from edge_sdk.base.command import Settings


def with_tuned(tables: Any, root: Path, settings: Settings) -> Any:
    """The file's tables of models with what was tuned where they say nothing.

    Says in ``settings`` what is used, and what is not and why. ``tables`` that are none are
    left for who reads them.
    """
    kept = read_kept(root)
    if kept.problem:
        settings.add_shown("tuned", "", f"not used: {kept.problem}")
    if not kept.models or not isinstance(tables, Mapping):
        return tables
    merged = dict(tables)
    for model, tuned in kept.models.items():
        table = merged.get(model, {})
        if isinstance(table, Mapping):
            merged[model] = {**_fields(model, tuned, table, root, settings), **table}
    return {model: table for model, table in merged.items() if table or model in tables}


def _fields(
    model: str, tuned: Tuned, table: Mapping[str, Any], root: Path, settings: Settings
) -> dict[str, Any]:
    options = table.get("engine_options", {})
    here = basis_here(
        tuned.basis.engine,
        tuned.basis.package,
        _providers(table),
        options if isinstance(options, Mapping) else {},
    )
    why = why_not(tuned, here)
    found = {}
    for name in ("threads", "loading", "batch_max"):
        value, reason = getattr(tuned, name), why
        if name in table:
            reason = f"{settings.file} says {table[name]!r}"
        elif name == "threads" and settings.shown()["engine_threads"]["from"] != "default":
            reason = "engine_threads is set"
        origin = f"{root / 'tuned.json'}, measured on {tuned.version} for {tuned.goal}"
        if reason:
            origin = f"not used: {reason} ({origin})"
        else:
            found[name] = value
        settings.add_shown(f'models."{model}".{name}', value, origin)
    return found


def _providers(table: Mapping[str, Any]) -> tuple[str, ...]:
    given = table.get("providers", ())
    return tuple(map(str, given)) if isinstance(given, (list, tuple)) else ()
