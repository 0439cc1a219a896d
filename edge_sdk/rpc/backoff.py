"""Exponential back-off with full jitter, pure (Brooker, "Exponential Backoff And Jitter", 2015)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """``delay_s`` of attempt n is uniform in [0, min(cap_s, base_s * 2**n)]."""

    base_s: float = 0.2
    cap_s: float = 30.0

    def delay_s(self, attempt: int, chance: float) -> float:
        """``attempt`` from 0; ``chance`` uniform in [0, 1), drawn by the caller."""
        return chance * min(self.cap_s, self.base_s * 2.0 ** min(attempt, 60))
