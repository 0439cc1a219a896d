"""``edge-agent top``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from device_agent.cli.ask import agent, agent_options
from device_agent.cli.usage import is_loaded, usage
from device_agent.local_api.asking import AgentQuestions, Asked
from edge_sdk.base.command import bytes_text, json_option, print_json, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_PERCENTILES = ("p50", "p90", "p99", "p999")
_WHICH = ("model", "version")
_NOW = ("state", "req/s", "failed/s", "refused", "in flight", "waiting")
_KEPT = ("batch", "cache memory", "file", "memory", "requests", "errors")
_WIDE = 150  # columns of a terminal on which a model has one line


@click.command(epilog="Example: edge-agent top --state ./state --once --json")
@agent_options
@click.option("--interval", "interval_s", type=click.FloatRange(0.05, 3600), default=1.0,
              show_default=True, help="Seconds between two looks.")  # fmt: skip
@click.option("--once", is_flag=True, help="Show one interval and end.")
@click.option("--all", "everything", is_flag=True, help="Artifacts that are unloaded, too.")
@json_option
def top(
    interval_s: float, once: bool, everything: bool, as_json: bool, **where: str | None
) -> None:
    """Shows what the models of this device do, as they do it: rates, times by phase, batches,
    caches, memory. Ctrl-C ends it; with --json, or without a terminal, it looks once."""
    with agent(where["state_dir"], where["local_address"]) as questions:
        looks = _looks(questions, interval_s, everything=everything)
        if as_json:
            print_json(next(looks))
        else:
            _show(looks, once=once or not sys.stdout.isatty())


def _looks(
    questions: AgentQuestions, interval_s: float, *, everything: bool
) -> Iterator[dict[str, Any]]:
    """One document after each interval, without end."""
    before = questions.statistics()
    while True:
        time.sleep(interval_s)
        now = questions.statistics()
        document = _document(before, now)
        if not everything:
            document["models"] = [one for one in document["models"] if is_loaded(one)]
        yield document
        before = now


def _document(before: Asked, now: Asked) -> dict[str, Any]:
    between_s = max(now.now_ms - before.now_ms, 1) / 1000
    return usage(before.page, now.page, now_ms=now.now_ms, interval_s=between_s)


def _show(looks: Iterator[dict[str, Any]], *, once: bool) -> None:
    # Imported where something is drawn, as in edge_sdk.base.command.
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    if once:
        console.print(_screen(next(looks), wide=console.width >= _WIDE))
        return
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            live.update("looking", refresh=True)
            for document in looks:
                live.update(_screen(document, wide=console.width >= _WIDE), refresh=True)
    except KeyboardInterrupt:
        return  # what it is ended with


def _screen(document: dict[str, Any], *, wide: bool) -> RenderableType:
    from rich.console import Group

    parts = [(*_WHICH, *_NOW, *_KEPT)] if wide else [(*_WHICH, *_NOW), (*_WHICH, *_KEPT)]
    shown: list[RenderableType] = [_head(document)]
    for table in (*(_models(document, columns) for columns in parts), _times(document)):
        shown += ["", table]
    return Group(*shown)


def _head(document: dict[str, Any]) -> str:
    process, pool = document["inference"], document["pool"]
    if not process["starts"]:
        return "inference has not started yet"
    restarts = process["starts"] - 1
    waiting = ", ".join(f"{count} {name}" for name, count in process["waiting"].items())
    return (
        f"inference {process['pid']} up {_span(process['up_s'])}, {restarts} restarts, "
        f"{bytes_text(process['memory_bytes'])} private"
        f"{'' if process['fresh'] else ' (does not answer: figures stand still)'}\n"
        f"{process['running']} runs at once; waiting: {waiting}\n"
        f"pool {bytes_text(pool['used_bytes'])} used of {bytes_text(pool['held_bytes'])} held "
        f"(most {bytes_text(pool['used_high_water_bytes'])}, may have "
        f"{bytes_text(pool['budget_bytes'])}), {pool['slabs_used']} slabs, "
        f"{pool['refused']} refused"
    )


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        # Names are what is read first: where it is narrow, figures give way.
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=number < 2)
    return table


def _models(document: dict[str, Any], columns: Sequence[str]) -> Table:
    table = _table(*columns)
    for one in document["models"]:
        figures = _figures(one)
        table.add_row(*(figures[column] for column in columns))
    return table


def _figures(one: dict[str, Any]) -> dict[str, str]:
    """What is shown of a model, by column."""
    cache = one["cache"] or {"memory_hit_rate": None, "file_hit_rate": None}
    return {
        "model": printable(one["model"]),
        "version": printable(one["version"]),
        "state": one["state"],
        "req/s": f"{one['requests_per_s']:.1f}",
        "failed/s": f"{one['failed_per_s']:.1f}",
        "refused": str(one["refused"]),
        "in flight": str(one["in_flight"]),
        "waiting": str(one["waiting"]),
        "batch": _plain(one["batch_mean"], "{:.1f}"),
        "cache memory": _plain(cache["memory_hit_rate"], "{:.0%}"),
        "file": _plain(cache["file_hit_rate"], "{:.0%}"),
        "memory": bytes_text(one["memory_bytes"]),
        "requests": str(one["requests"]),
        "errors": str(one["errors"]),
    }


def _times(document: dict[str, Any]) -> RenderableType:
    """Times of the interval; since the start, in brackets, where nothing came in it."""
    table = _table("model", "phase, ms", "mean", *_PERCENTILES)
    for one in document["models"]:
        for phase, recent in one["recent"].items():
            times = recent if recent["count"] else one["phases"][phase]
            form = "{:.3f}" if recent["count"] else "({:.3f})"
            figures = [_plain(times[f"{name}_ms"], form) for name in ("mean", *_PERCENTILES)]
            table.add_row(printable(one["model"]), phase, *figures)
    return table


def _plain(figure: float | None, form: str) -> str:
    return "-" if figure is None else form.format(figure)
