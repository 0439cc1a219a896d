"""What a request says of the sequence that it belongs to. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """``id`` as the application chose it: 7 and "7" are two sequences. ``start``: the state
    begins anew with this request; ``end``: it is let go after it."""

    id: int | str
    start: bool = False
    end: bool = False
