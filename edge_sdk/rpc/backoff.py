"""Exponential back-off with full jitter, pure (Brooker, "Exponential Backoff And Jitter", 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sdk.base.errors import EdgeError

_ASKED_S_MAX = 3600.0  # whatever a peer asks for, it is asked again within the hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """``delay_s`` of attempt n is uniform in [0, min(cap_s, base_s * 2**n)]."""

    base_s: float = 0.2
    cap_s: float = 30.0

    def delay_s(self, attempt: int, chance: float, after: Exception | None = None) -> float:
        """``attempt`` from 0; ``chance`` uniform in [0, 1), drawn by the caller; ``after``: what
        the last attempt failed with. What that asks to wait for comes first."""
        drawn_s = chance * min(self.cap_s, self.base_s * 2.0 ** min(attempt, 60))
        return retry_after_s(after) + drawn_s


def retry_after_s(error: Exception | None) -> float:
    """How long the peer asks to be left alone; 0 where it says nothing, or no such number."""
    said = error.facts.get("retry_after_s") if isinstance(error, EdgeError) else None
    try:
        seconds = float(said or 0)
    except (TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), _ASKED_S_MAX) if math.isfinite(seconds) else 0.0
