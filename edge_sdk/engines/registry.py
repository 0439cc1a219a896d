"""Which engines there are. A new one is one line here and one file beside."""

from __future__ import annotations

import importlib
import importlib.util

from edge_sdk.base import NotFoundError, RefusedError
from edge_sdk.engines.contract import Engine

# name: (module of ours, its class, the library that must be installed)
ENGINES = {
    "onnxruntime": ("edge_sdk.engines.onnxruntime", "OnnxRuntime", "onnxruntime"),
    "litert": ("edge_sdk.engines.litert", "LiteRt", "ai_edge_litert"),
}


def available_engines() -> tuple[str, ...]:
    """Names of the engines whose library is installed here; nothing is imported for it."""
    return tuple(
        name
        for name, (_, _, library) in ENGINES.items()
        if importlib.util.find_spec(library) is not None
    )


def open_engine(name: str) -> Engine:
    """Raises: NotFoundError (no such engine), RefusedError (its library is not installed)."""
    if name not in ENGINES:
        raise NotFoundError(f"there is no engine {name!r}; known are {', '.join(ENGINES)}")
    if name not in available_engines():
        raise RefusedError(
            f"the library of engine {name!r} is not installed here ({ENGINES[name][2]})",
            engine=name,
        )
    module, cls, _ = ENGINES[name]
    engine: Engine = getattr(importlib.import_module(module), cls)()
    return engine
