"""Deltas are built here: in worker processes, once each however many ask, then cached.

Never decides which delta is worth building; ``distributor.planning`` does.
"""

from distributor.builds.builder import Builder, capability_of
from distributor.builds.job import BuildFile, BuildOrder, BuiltDelta, build_delta

__all__ = [
    "BuildFile",
    "BuildOrder",
    "Builder",
    "BuiltDelta",
    "build_delta",
    "capability_of",
]
