"""What was imported is out of the search for garbage, which goes on for all that comes later."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from edge_sdk.base.garbage import importing, leave_alone


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.enable()


class Knot:
    """Refers to itself, so that only a search finds it."""

    def __init__(self) -> None:
        self.own = self


def test_no_search_within_the_block() -> None:
    """What the block brings is frozen; what was garbage before does not matter."""
    frozen = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        kept = [Knot() for _ in range(10)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(kept)


def test_who_had_no_search_gets_none() -> None:
    """A command that turned it off decides itself when it is back; also after an exception."""
    gc.disable()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert not gc.isenabled()


def test_later_garbage_is_found() -> None:
    """The search goes on, and finds what is new."""
    leave_alone()
    Knot()
    assert gc.collect() >= 1
    gc.disable()
    leave_alone(searches=False)
    assert not gc.isenabled()
