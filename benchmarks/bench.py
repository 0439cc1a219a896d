"""Every figure but the headline: ``make bench`` or ``python -m benchmarks.bench``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks import codec, memory, serving
from benchmarks.rows import Row, document, show, write_json
from demo.stage import DemoError
from edge_sdk.base.command import run

NAME = "bench"

PARTS: dict[str, Callable[[Path], list[Row]]] = {
    "memory": memory.measure,
    "codec": codec.measure,
    "serving": serving.measure,
}


@click.command()
@click.option("--only", type=click.Choice(sorted(PARTS)), help="One part, not written to build/.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli(only: str | None) -> None:
    """Measures memory, sizes, speed and serving, and writes build/bench.json.

    Example: python -m benchmarks.bench --only codec
    """
    rows: list[Row] = []
    for name, measure in PARTS.items():
        if only in (None, name):
            click.echo(f"Measuring {name} ...", err=True)
            with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
                rows += measure(Path(folder))
    if only is None:
        write_json(Path("build") / f"{NAME}.json", document(NAME, rows))
    show("On this machine", rows)
    missed = [one.id for one in rows if one.met is False]
    if missed:
        raise DemoError(f"missed: {', '.join(missed)}")


def main() -> None:
    run(cli, NAME)


if __name__ == "__main__":
    main()
