"""One line on a terminal that changes while something takes its time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_sdk.base.command import printable


@contextmanager
def status_line() -> Iterator[Callable[[str], None] | None]:
    """Yields what shows a text on standard error; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("starting") as status:
        # As text: names of models and loads are no markup.
        yield lambda words: status.update(Text(printable(words)))
