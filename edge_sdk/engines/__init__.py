"""Engines: what runs a model, behind one contract, and golden samples to try a model with.

An engine never downloads anything, never loads operator libraries that a model names and
never reports to anybody. Others add theirs by an entry point: see docs/engines.md.
"""

from edge_sdk.engines.contract import Binding, Engine, EngineFacts, Loading, Session
from edge_sdk.engines.errors import EngineError
from edge_sdk.engines.golden import GoldenResult, make_golden, replay
from edge_sdk.engines.known import KnownModel, PlanRoom, load_model
from edge_sdk.engines.loading import choose_loading
from edge_sdk.engines.onnx_mapped import is_quantised
from edge_sdk.engines.registry import available_engines, open_engine

__all__ = [
    "Binding",
    "Engine",
    "EngineError",
    "EngineFacts",
    "GoldenResult",
    "KnownModel",
    "Loading",
    "PlanRoom",
    "Session",
    "available_engines",
    "choose_loading",
    "is_quantised",
    "load_model",
    "make_golden",
    "open_engine",
    "replay",
]
