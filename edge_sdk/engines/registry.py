"""Which engines there are, found through entry points; nothing is imported before it is asked for.

Others add an engine with an entry point of the group ``edge_sdk.engines`` in a package of
their own: its name is the engine's, its value a class that fits ``contract.Engine``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import metadata

from edge_sdk.base import NotFoundError, RefusedError
from edge_sdk.engines.contract import Engine

GROUP = "edge_sdk.engines"
# Ours are declared in pyproject.toml too. A checkout has no metadata, or that of another day,
# and nobody may put another engine in the place of one of these.
ENGINES = {
    "onnxruntime": "edge_sdk.engines.onnxruntime:OnnxRuntime",
    "litert": "edge_sdk.engines.litert:LiteRt",
    "tensorrt": "edge_sdk.engines.tensorrt:TensorRt",
}


def available_engines() -> tuple[str, ...]:
    """Names of the engines whose library is installed here; no library is imported for it."""
    return tuple(name for name, found in _found().items() if not _problem(name, found))


def open_engine(name: str) -> Engine:
    """Raises: NotFoundError (no such engine), RefusedError (its library is not installed)."""
    every = _found()
    if name not in every:
        raise NotFoundError(f"there is no engine {name!r}; known are {', '.join(every)}")
    problem = _problem(name, every[name])
    if problem:
        raise RefusedError(problem, engine=name)
    engine: Engine = every[name][0].load()()
    return engine


def _found() -> dict[str, list[metadata.EntryPoint]]:
    """By engine's name what is registered for it; more than one is refused when it is used."""
    every = {name: [metadata.EntryPoint(name, value, GROUP)] for name, value in ENGINES.items()}
    for point in metadata.entry_points(group=GROUP):
        others = every.setdefault(point.name, [])
        if point.name not in ENGINES and point.value not in [one.value for one in others]:
            others.append(point)
    return every


def _problem(name: str, points: Sequence[metadata.EntryPoint]) -> str:
    """Why an engine cannot be used here; empty: nothing is known against it."""
    if len(points) > 1:
        values = ", ".join(sorted(point.value for point in points))
        return f"engine {name!r} is registered by several packages: {values}"
    try:
        libraries = getattr(points[0].load(), "libraries", ())
    except (ImportError, AttributeError) as error:
        return f"engine {name!r} cannot be loaded from {points[0].value}: {error}"
    if libraries and not any(importlib.util.find_spec(library) for library in libraries):
        return f"the library of engine {name!r} is not installed here ({' or '.join(libraries)})"
    return ""
