"""What several commands print alike."""

from __future__ import annotations

from typing import Any

import click

from edge_sdk.base.command import bytes_text, print_table


def print_models(models: list[dict[str, Any]]) -> None:
    rows = [
        [
            model["model"],
            model["version"] or "-",
            model["variant"] or "-",
            _served(model),
            model["previous_version"] or "-",
            _candidate(model),
            _became(model),
        ]
        for model in models
    ]
    columns = ["model", "version", "variant", "served", "previous", "candidate", "state"]
    print_table(columns, rows)
    for model in models:
        if model["unserved_reason"]:
            click.echo(not_served(model))
        if model["reason"]:
            told = model["candidate_version"] or model["version"]
            why = f"{model['reason']}: {model['message']}"
            click.echo(f"{model['model']}: {told} {_became(model)}: {why}")
        if model["cache"] is not None:
            click.echo(f"cache of {model['model']}: {_cache(model['cache'])}")
        watching = model["watching"]
        if watching is not None and watching["mode"] != "switch":
            click.echo(f"{watching['mode']} of {model['model']}: {_watching(watching)}")


def not_served(model: dict[str, Any]) -> str:
    """One line that says why."""
    why = f"{model['unserved_reason']}: {model['unserved_message']}"
    return f"{model['model']}: {model['version']} is not served: {why}"


def _served(model: dict[str, Any]) -> str:
    if model["unserved_reason"]:
        return "NO"
    return "yes" if model["serves"] else "-"


def _became(model: dict[str, Any]) -> str:
    return str(model["state"]).replace("_", " ")


def _watching(seen: dict[str, Any]) -> str:
    answered = f"answers {seen['share']:.0%}, " if seen["mode"] == "canary" else ""
    ratio = f"{seen['ratio']:.2f} of the time before" if seen["ratio"] else "time not known yet"
    choices = seen["rows_agreed"] / seen["rows"] if seen["rows"] else None
    return (
        f"{answered}{seen['requests']} requests ({seen['errors']} failed), {seen['mirrored']} run "
        f"on both ({seen['dropped']} left out): {ratio}, {seen['agreed']} the same, "
        f"{_percent(choices)} of first choices the same"
    )


def _cache(cache: dict[str, Any]) -> str:
    return (
        f"memory {_percent(cache['memory_hit_rate'])} of requests "
        f"({cache['entries']} entries, {bytes_text(cache['memory_bytes'])}), "
        f"file {_percent(cache['file_hit_rate'])} of the rest "
        f"({bytes_text(cache['file_bytes'])}), {cache['shared']} shared, {cache['misses']} run"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _candidate(model: dict[str, Any]) -> str:
    if not model["candidate_version"]:
        return "-"
    if not model["total_bytes"]:
        return str(model["candidate_version"])
    done, total = bytes_text(model["done_bytes"]), bytes_text(model["total_bytes"])
    return f"{model['candidate_version']} ({done} of {total})"
