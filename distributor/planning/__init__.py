"""Decides which variant a device gets, which deltas are built and kept, and by which it comes.

Pure: values in, values out; no clock, file, socket or randomness. Never plans what a
device did not say it can decode.
"""

from distributor.planning.assignment import change, empty_assignment, order
from distributor.planning.cohort import Selector, choose, parse_selector
from distributor.planning.history import KEY_EVERY, History, Pair, route
from distributor.planning.keeping import Kept, StoredDelta, Use, judge, needed_pairs, to_evict
from distributor.planning.model import (
    ArtifactFacts,
    DecoderFacts,
    DeltaJob,
    DeltaOffer,
    DeviceFacts,
    EngineFacts,
    MemoryInUse,
    Plan,
    PlanPolicy,
    Resolution,
    Verdict,
)
from distributor.planning.planner import best_sources, decodable, jobs_once, plan, wanted
from distributor.planning.resolver import resolve

__all__ = [
    "KEY_EVERY",
    "ArtifactFacts",
    "DecoderFacts",
    "DeltaJob",
    "DeltaOffer",
    "DeviceFacts",
    "EngineFacts",
    "History",
    "Kept",
    "MemoryInUse",
    "Pair",
    "Plan",
    "PlanPolicy",
    "Resolution",
    "Selector",
    "StoredDelta",
    "Use",
    "Verdict",
    "best_sources",
    "change",
    "choose",
    "decodable",
    "empty_assignment",
    "jobs_once",
    "judge",
    "needed_pairs",
    "order",
    "parse_selector",
    "plan",
    "resolve",
    "route",
    "to_evict",
    "wanted",
]
