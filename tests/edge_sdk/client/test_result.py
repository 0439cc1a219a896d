"""What goes with a request."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.base import UsageError
from edge_sdk.client.errors import VersionNotActiveError
from edge_sdk.client.result import SequenceStep, check_priority, check_version, is_named_by_text


@pytest.mark.parametrize("wrong", [0, -1, 1 << 63, ""])
def test_a_sequence_has_a_name(wrong: Any) -> None:
    """A number above 0 that the wire can carry, or a text."""
    with pytest.raises(UsageError, match="id"):
        SequenceStep(id=wrong)


def test_only_numbers_go_over_the_lane() -> None:
    """Its packets have no room for a text."""
    assert is_named_by_text(SequenceStep(id="a"))
    assert not is_named_by_text(SequenceStep(id=1))
    assert not is_named_by_text(None)


def test_checks_pass_what_is_right() -> None:
    """And refuse the rest, with what is expected."""
    for priority in range(4):
        check_priority(priority)
    check_version("1.0.0", None)
    check_version("1.0.0", "1.0.0")
    with pytest.raises(UsageError, match="0 to 3"):
        check_priority(-1)
    with pytest.raises(VersionNotActiveError, match=r"1\.0\.0"):
        check_version("1.0.0", "2.0.0")
