"""Cohorts: names and selectors, and nobody who was not meant."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.planning import choose, parse_selector
from edge_sdk.base import EdgeError, UsageError

DEVICES = {
    "a": {"site": "berlin", "tier": "test"},
    "b": {"site": "berlin"},
    "c": {"site": "paris", "tier": "gold"},
    "d": {},
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "abcd"),
        ("  ", "abcd"),
        ("site=berlin", "ab"),
        ("site=berlin,tier!=test", "b"),
        ("tier!=test", "bcd"),
        ("tier", "ac"),
        ("!tier", "bd"),
        (" site = paris , tier=gold ", "c"),
        ("site=", ""),
        ("site=berlin,site=paris", ""),
    ],
)
def test_selector_chooses(text: str, names: str) -> None:
    """A selector chooses exactly the devices for which every term holds."""
    assert choose(DEVICES, names=(), selector=parse_selector(text)) == tuple(names)


def test_names_and_selector_both_count() -> None:
    """Names narrow what the selector matches; names that are no device are left out."""
    berlin = parse_selector("site=berlin")
    assert choose(DEVICES, names=["b", "c", "ghost"], selector=berlin) == ("b",)
    assert choose(DEVICES, names=["d", "ghost"], selector=parse_selector("")) == ("d",)


@pytest.mark.parametrize("text", [",", "site=berlin,", "a=b,,c=d"])
def test_empty_term_is_refused(text: str) -> None:
    """A forgotten term is a mistake, not every device."""
    with pytest.raises(UsageError, match="empty term"):
        parse_selector(text)


@pytest.mark.parametrize("text", ["Site=berlin", "=x", "!=x", "!", "a b", "!!a", "a!b=c"])
def test_bad_label_is_refused(text: str) -> None:
    """A label that cannot exist is refused by name."""
    with pytest.raises(UsageError, match="label"):
        parse_selector(text)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Any text is a selector that reads the same after printing, or a typed error."""
    try:
        selector = parse_selector(text)
    except EdgeError:
        return
    assert parse_selector(str(selector)) == selector
