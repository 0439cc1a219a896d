"""What a load's process is told, and what it says, each as JSON in one line."""

from __future__ import annotations

import msgspec

from device_agent.load_test.loads import Load


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do; ``samples`` is where the result goes."""

    load: Load
    agent: str
    inference: str
    fast_lane: bool
    seed: int
    warm_up_s: float
    duration_s: float
    samples: str


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A line of standard output. ``error``: it cannot be done (reason and message)."""

    state: str  # ready, running, done, error
    count: int = 0
    error: tuple[str, str] | None = None
    versions: dict[str, int] = {}
    first_errors: dict[str, str] = {}
    kinds: tuple[str, ...] = ()
    truncated: bool = False
