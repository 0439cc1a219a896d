"""Python's search for garbage, kept away from what cannot be any: modules, classes, functions.

Searching them again and again while they are imported, and once more when the interpreter ends,
was a quarter of the start of a process of the agent, and a third of a short command's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """A block that imports; what is there at its end is never searched."""
    searches = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        leave_alone(searches=searches)


def leave_alone(*, searches: bool = True) -> None:
    """Takes all that is there out of the search, and goes on with it unless told otherwise."""
    gc.freeze()
    if searches:
        gc.enable()
