"""What an engine can fail with beyond the families of ``edge_sdk.base``."""

from __future__ import annotations

from edge_sdk.base import EdgeError


class EngineError(EdgeError):
    """The engine failed while it computed, on inputs that fit the model's signature."""
