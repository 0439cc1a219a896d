"""What is known of a model beside its files, for engines that keep something made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from edge_sdk.base import Digest
from edge_sdk.engines.contract import Engine, Session
from edge_sdk.manifest.model import Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRoom:
    """Where an engine may keep what it makes on this device, and how much of it.

    ``room_bytes`` is asked before each write: what the device's quota still has.
    """

    folder: Path
    room_bytes: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """Which artifact the files belong to. ``golden``: its golden sample's file, if it has one."""

    artifact: Digest
    room: PlanRoom
    golden: Path | None = None
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)


@runtime_checkable
class PlanEngine(Protocol):
    """An engine that makes plans: of one model, for one device, at some cost."""

    def load_known(self, entry: Path, known: KnownModel, *, threads: int = 1) -> Session:
        """As ``Engine.load``, with what was kept where it fits, else keeping what it makes."""


def load_model(
    engine: Engine, entry: Path, known: KnownModel | None, *, threads: int = 1
) -> Session:
    """``Engine.load``, by way of kept plans where engine and caller can.

    Raises: NotFoundError, FormatError, RefusedError, as ``Engine.load``.
    """
    if known is not None and isinstance(engine, PlanEngine):
        return engine.load_known(entry, known, threads=threads)
    return engine.load(entry, threads=threads)
