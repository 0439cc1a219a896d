"""What each room offers is a list that is changed on purpose."""

from __future__ import annotations

import importlib

import pytest

from tests.architecture.snapshots import EXPORTS, current_exports, read
from tests.support.source_tree import rooms


def test_exports_are_the_committed_ones() -> None:
    """Every room exports what exports.json says (``make exports`` writes it again)."""
    assert current_exports() == read(EXPORTS)


@pytest.mark.parametrize("room", rooms())
def test_every_room_says_what_it_is(room: str) -> None:
    """The door of a room has a docstring, and whatever it exports exists."""
    module = importlib.import_module(room)
    assert (module.__doc__ or "").strip(), f"{room} has no docstring"
    missing = [name for name in getattr(module, "__all__", []) if not hasattr(module, name)]
    assert missing == []
