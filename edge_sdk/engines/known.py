"""What is known of a model beside its files, for engines that keep something made from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from edge_sdk.base import Digest, RefusedError
from edge_sdk.engines.contract import Engine, Loading, Session
from edge_sdk.manifest.model import Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRoom:
    """Where an engine may keep what it makes on this device, and how much of it.

    Both are asked before each write. ``room_bytes``: what the device's quota still has;
    ``held``: the artifacts that the device has, of which alone something is kept.
    """

    folder: Path
    room_bytes: Callable[[], int]
    held: Callable[[], Collection[Digest]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """Which artifact the files belong to, and what of it is kept where.

    ``golden``: the file of its golden sample, if it has one. ``batch_max``: requests that may
    come as one batch. ``options``: what the device's operator set for the engine.
    """

    artifact: Digest
    room: PlanRoom
    batch_max: int = 1
    golden: Path | None = None
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    options: Mapping[str, int | bool] = field(default_factory=dict)


@runtime_checkable
class PlanEngine(Protocol):
    """An engine that makes plans: of one model, for one device, at some cost."""

    def load_known(
        self,
        entry: Path,
        known: KnownModel,
        *,
        threads: int = 1,
        loading: Loading = "auto",
        providers: Sequence[str] = (),
    ) -> Session:
        """As ``Engine.load``, with what was kept where it fits, else keeping what it makes."""


def load_model(
    engine: Engine,
    entry: Path,
    known: KnownModel | None,
    *,
    threads: int = 1,
    loading: Loading = "auto",
    providers: Sequence[str] = (),
) -> Session:
    """``Engine.load``, by way of kept plans where engine and caller can.

    Raises: NotFoundError, FormatError, RefusedError, as ``Engine.load``.
    """
    if known is not None and isinstance(engine, PlanEngine):
        return engine.load_known(
            entry, known, threads=threads, loading=loading, providers=providers
        )
    if known is not None and known.options:
        raise RefusedError(
            f"engine {engine.facts().name} has no options to set: {', '.join(known.options)}"
        )
    return engine.load(entry, threads=threads, loading=loading, providers=providers)
