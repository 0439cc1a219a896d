"""What the updater tells the trial's child process, and hears from it. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec


class PlanSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where an engine may keep what it makes of the candidate: see KnownModel, PlanRoom."""

    artifact: str
    folder: str
    room_bytes: int
    held: tuple[str, ...]


class TrialSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to try. ``memory_bytes`` 0: no limit; tolerances are (atol, rtol) by output.

    ``free_bytes``: the memory that a loaded model could have.
    """

    folder: str
    entry: str
    engine: str
    golden_path: str | None
    tolerances: dict[str, tuple[str, str]]
    threads: int
    loading: Literal["auto", "mapped", "prepacked"] = "auto"
    providers: tuple[str, ...] = ()
    batch_max: int = 1
    free_bytes: int = 0
    memory_bytes: int
    cpu_s: int
    plans: PlanSpec | None = None
    engine_options: dict[str, int | bool] = {}
    replays: int = 3


class TrialOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """``reason`` is an error name, empty while ok."""

    ok: bool
    reason: str = ""
    message: str = ""
    load_ms: float = 0.0
    compute_ns: tuple[int, ...] = ()


class EngineFound(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    ir_version_max: int | None
    opset_max: dict[str, int]
