"""Holds a whole log against its signed heads and against a head seen earlier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_sdk.audit.chain import Chain
from edge_sdk.audit.heads import Head
from edge_sdk.base import Digest, TrustError


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What held: the head that covers the log, and the earlier one that it was compared with."""

    head: Head
    kept: Head | None
    heads: int  # how many signed heads agree with the log


def verify_log(entries: Iterable[bytes], signed: Sequence[Head], *, kept: Head | None) -> Compared:
    """Computes the chain again and compares it with every head in ``signed``, and with ``kept``.

    signed: heads whose signatures were checked, of which the newest must cover all entries.
    kept: the head that this operator saw last; none: seen for the first time, so that only
    what comes after can be noticed.

    Raises: TrustError that says what happened to the log: entry changed, end cut off, history
    rewritten, another log.
    """
    if not signed:
        raise TrustError("the distributor shows no signed head of its audit log")
    newest = max(signed, key=lambda one: one.size)
    _same_log(signed, newest, kept)
    wanted = {one.size for one in (*signed, *([] if kept is None else [kept]))}
    chain = Chain(newest.origin)
    seen: dict[int, Digest] = {0: chain.head}
    for document in entries:
        chain.follow(document)
        if chain.size > newest.size:  # at once: a log may be shown that never ends
            raise TrustError(f"entries after {newest.size} are covered by no signed head")
        if chain.size in wanted:
            seen[chain.size] = chain.head
    _long_enough(chain, newest, kept)
    for one in sorted(signed, key=lambda one: one.size):
        if seen[one.size] != one.digest:
            raise TrustError(
                f"the log is not the one of its signed head at entry {one.size}: history up to "
                "there was rewritten",
                entry=one.size,
            )
    if kept is not None and seen[kept.size] != kept.digest:
        raise TrustError(
            f"the first {kept.size} entries are not those that this machine saw at "
            f"{kept.at_ms} ms: history was rewritten",
            entry=kept.size,
        )
    return Compared(head=newest, kept=kept, heads=len(signed))


def _same_log(signed: Sequence[Head], newest: Head, kept: Head | None) -> None:
    for one in (*signed, *([] if kept is None else [kept])):
        if one.origin != newest.origin:
            raise TrustError(
                f"this is the audit log {newest.origin}, and not {one.origin}: the log was begun "
                "anew, which hides all that was before"
            )


def _long_enough(chain: Chain, newest: Head, kept: Head | None) -> None:
    if kept is not None and (chain.size < kept.size or newest.size < kept.size):
        raise TrustError(
            f"the log ends at entry {min(chain.size, newest.size)}, and this machine has seen "
            f"entry {kept.size}: its end was cut off",
            entry=min(chain.size, newest.size),
        )
    if chain.size < newest.size:
        raise TrustError(
            f"the log ends at entry {chain.size}, and its signed head speaks of {newest.size}: "
            "its end was cut off",
            entry=chain.size,
        )
