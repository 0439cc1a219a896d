"""Memory for tensors: aligned slabs within a budget, used again instead of given back.

The pool knows nothing of models, engines or types beyond bytes; where its memory comes from
is a slab source's business (anonymous memory here).
"""

from edge_sdk.tensor_pool.errors import SlabError
from edge_sdk.tensor_pool.pool import PoolStatistics, Slab, TensorPool
from edge_sdk.tensor_pool.sealed import SealedSlab
from edge_sdk.tensor_pool.size_classes import ALIGNMENT_BYTES
from edge_sdk.tensor_pool.sources import AnonymousMemory, SlabSource

__all__ = [
    "ALIGNMENT_BYTES",
    "AnonymousMemory",
    "PoolStatistics",
    "SealedSlab",
    "Slab",
    "SlabError",
    "SlabSource",
    "TensorPool",
]
