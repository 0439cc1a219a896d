"""What a measuring process is told and answers, each as JSON in one line."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What to load, and how: ``served`` holds fields of a ModelConfig. ``plans_folder``:
    where engines keep what they make of models, for all processes of one search."""

    model: str
    folder: str
    entry: str
    engine: str
    artifact: str
    golden_path: str | None
    plans_folder: str
    served: dict[str, Any]
    engine_threads: int
    memory_bytes: int
    nice: int


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of at least this long; ``clients`` 1: latency alone."""

    seconds: float
    clients: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. ``loaded``: to a Start, with the ways of loading that the engine knows and
    the module that it is; ``measured``: to an Ask; ``refused``: this setting cannot be."""

    state: Literal["loaded", "measured", "refused"]
    reason: str = ""
    message: str = ""
    load_ms: float = 0.0
    memory_bytes: int = 0
    takes_batches: bool = False
    loadings: tuple[str, ...] = ()
    library: str = ""
    latencies_ns: tuple[int, ...] = ()
    count: int = 0
    seconds: float = 0.0
