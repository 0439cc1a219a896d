"""The methods, one file each. A new one is a file beside these and a line in ``_ALL``."""

from __future__ import annotations

from edge_sdk.delta.methods.contract import DecodeContext, Method, Registry
from edge_sdk.delta.methods.copy import Copy
from edge_sdk.delta.methods.literal import Literal
from edge_sdk.delta.methods.patch import Patch
from edge_sdk.delta.methods.planes import Planes
from edge_sdk.delta.methods.residual import Residual

_ALL: tuple[Method, ...] = (
    Copy(),
    Literal(),
    Patch(),
    Residual(),
    Planes(),
)

REGISTRY: Registry = {method.number: method for method in _ALL}
MAPS = "maps"
"""Not a method: predictions with dimensions or a value map, which a decoder may leave out."""
REPEATS = "repeats"
"""Not a method: records that read the target so far, which a decoder may be unable to."""
NAMES: tuple[str, ...] = (*(method.name for method in _ALL), MAPS, REPEATS)
"""What a decoder of this release knows."""

__all__ = [
    "MAPS",
    "NAMES",
    "REGISTRY",
    "REPEATS",
    "Copy",
    "DecodeContext",
    "Literal",
    "Method",
    "Patch",
    "Planes",
    "Registry",
    "Residual",
]
