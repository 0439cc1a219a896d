"""What several commands print alike."""

from __future__ import annotations

from typing import Any

from edge_sdk.base.command import bytes_text, print_table


def print_models(models: list[dict[str, Any]]) -> None:
    rows = [
        [
            model["model"],
            model["version"] or "-",
            model["variant"] or "-",
            model["state"],
            _candidate(model),
            model["previous_version"] or "-",
            model["reason"],
        ]
        for model in models
    ]
    columns = ["model", "version", "variant", "state", "candidate", "previous", "reason"]
    print_table(columns, rows)


def _candidate(model: dict[str, Any]) -> str:
    if not model["candidate_version"]:
        return "-"
    if not model["total_bytes"]:
        return str(model["candidate_version"])
    done, total = bytes_text(model["done_bytes"]), bytes_text(model["total_bytes"])
    return f"{model['candidate_version']} ({done} of {total})"
