"""A log is held against its signed heads and against the head that was seen before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_sdk.audit import Head, verify_log
from edge_sdk.base import TrustError
from tests.support.audit_logs import head_of, log

FIVE = log(5)


def test_an_honest_log_holds() -> None:
    """A log that grew since it was seen last holds against all its heads."""
    heads = [head_of(FIVE), head_of(FIVE[:2]), head_of([])]
    compared = verify_log(FIVE, heads, kept=head_of(FIVE[:3]))
    assert (compared.head.size, compared.heads, compared.kept) == (5, 3, head_of(FIVE[:3]))


def test_a_log_seen_for_the_first_time_holds() -> None:
    """Without an earlier head the chain and the signed heads are all there is to compare."""
    assert verify_log(FIVE, [head_of(FIVE)], kept=None).kept is None


def test_a_cut_off_end_is_noticed() -> None:
    """Fewer entries, with heads signed anew over them: the kept head tells."""
    with pytest.raises(TrustError, match=r"ends at entry 3.*seen entry 5: its end was cut off"):
        verify_log(FIVE[:3], [head_of(FIVE[:3])], kept=head_of(FIVE))


def test_fewer_entries_than_signed_are_noticed() -> None:
    """Entries that the signed head speaks of but that do not come were cut off."""
    with pytest.raises(TrustError, match=r"ends at entry 4.*speaks of 5: its end was cut off"):
        verify_log(FIVE[:4], [head_of(FIVE)], kept=None)


def test_entries_beyond_the_signed_head_are_refused() -> None:
    """Nobody vouches for what comes after the newest signed head."""
    with pytest.raises(TrustError, match="covered by no signed head"):
        verify_log(FIVE, [head_of(FIVE[:4])], kept=None)


def test_a_log_without_end_is_refused_at_once() -> None:
    """Nothing is read beyond the first entry that no head covers."""

    def endless() -> Iterator[bytes]:
        yield from FIVE
        raise AssertionError("somebody reads on")

    with pytest.raises(TrustError, match="covered by no signed head"):
        verify_log(endless(), [head_of(FIVE[:4])], kept=None)


def test_a_rewritten_history_is_noticed() -> None:
    """A consistent log with another past, signed anew: the kept head tells."""
    other = log(6, actor="mallory")
    with pytest.raises(TrustError, match="not those that this machine saw"):
        verify_log(other, [head_of(other)], kept=head_of(FIVE))


def test_a_log_other_than_the_signed_is_noticed() -> None:
    """A consistent log whose digest is not that of its signed head was rewritten."""
    with pytest.raises(TrustError, match="not the one of its signed head at entry 5"):
        verify_log(log(5, actor="mallory"), [head_of(FIVE)], kept=None)


def test_an_older_head_that_disagrees_is_noticed() -> None:
    """Each signed head must be a point of the log, not only the newest."""
    other = log(5, actor="mallory")
    with pytest.raises(TrustError, match="signed head at entry 2"):
        verify_log(other, [head_of(other), head_of(FIVE[:2])], kept=None)


def test_a_log_begun_anew_is_noticed() -> None:
    """A log of another name, however consistent, is not the one that was seen."""
    fresh = log(5, origin="edge-audit/fresh")
    with pytest.raises(TrustError, match="begun anew"):
        verify_log(fresh, [head_of(fresh, origin="edge-audit/fresh")], kept=head_of(FIVE))


def test_no_head_is_no_proof() -> None:
    """A distributor that shows no signed head proves nothing."""
    empty: list[Head] = []
    with pytest.raises(TrustError, match="no signed head"):
        verify_log(FIVE, empty, kept=None)
