"""The tables of docs/limits.md, from the code. ``python -m tests.support.limit_tables`` writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from device_agent.access import LOCAL_LIMITS, SMALL
from distributor.services import DEVICE_LIMITS, OPERATOR_LIMITS, limits_for
from edge_sdk.rpc import OTHER, MethodLimits, Rate
from tests.support.source_tree import ROOT

DOCUMENT = ROOT / "docs" / "limits.md"


def _size(count: int) -> str:
    for unit, step in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= step:
            return f"{count // step} {unit}"
    return f"{count} B"


def _row(method: str, one: MethodLimits) -> str:
    pace = f", {_size(one.pace_bytes)}" if one.pace_bytes > 1 else ""
    return (
        f"| {method.rpartition('/')[2]} | {_size(one.message_bytes)} | {_size(one.metadata_bytes)} "
        f"| {one.each:,} | {one.all:,} | {one.stall_s:g} s{pace} |"
    )


def _table(table: Mapping[str, MethodLimits], rate: Rate) -> str:
    head = "| method | message | metadata | of one caller | in all | stream may stand still |"
    rows = [_row(method, one) for method, one in table.items()]
    said = f"Calls of one caller: {rate.burst:g} at once, then {rate.per_s:g} a second."
    return "\n".join([said, "", head, "|---|---|---|---|---|---|", *rows])


def _local() -> str:
    """Methods with the same limits share a row."""
    rows: dict[MethodLimits, list[str]] = {}
    for method, one in LOCAL_LIMITS.items():
        rows.setdefault(one, []).append(method.rpartition("/")[2])
    lines = ["| method | message | streams or calls of one app | of all |", "|---|---|---|---|"]
    for one, names in rows.items():
        counts = "| | |" if one == SMALL else f"| {one.each:,} | {one.all:,} |"
        name = "any other method" if one == SMALL else ", ".join(names)
        lines.append(f"| {name} | {_size(one.message_bytes)} {counts}")
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """By the name of the marker."""
    return {
        "local": _local(),
        "devices": _table(DEVICE_LIMITS, limits_for("device").rate),
        "operators": _table(OPERATOR_LIMITS, limits_for("operator").rate),
        "newcomers": _table(limits_for(None).table, limits_for(None).rate),
        "other": _table({"any other method": OTHER}, limits_for("device").rate).split("\n\n")[1],
    }


def filled(text: str) -> str:
    """``text`` with each table between its markers."""
    for name, table in tables().items():
        pattern = rf"(<!-- limits: {name} -->\n).*?(<!-- /limits -->)"
        text = re.sub(
            pattern, lambda found, t=table: found[1] + t + "\n" + found[2], text, flags=re.S
        )
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text("utf-8")), "utf-8")
