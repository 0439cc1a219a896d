"""Deltas are built here: in worker processes, once each however many ask, then cached.

Never decides which delta is worth building; ``distributor.planning`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributor.builds.job import BuildFile, BuildOrder, BuiltDelta, build_delta

if TYPE_CHECKING:
    from distributor.builds.builder import Builder, Room, capability_of

__all__ = [
    "BuildFile",
    "BuildOrder",
    "Builder",
    "BuiltDelta",
    "Room",
    "build_delta",
    "capability_of",
]


def __getattr__(name: str) -> Any:
    # A worker imports this room for the job alone. The builder brings SQLAlchemy and obstore
    # along: 0.45 s of CPU for each worker that starts (of 0.65 s), for nothing.
    if name in ("Builder", "Room", "capability_of"):
        from distributor.builds import builder

        return getattr(builder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
