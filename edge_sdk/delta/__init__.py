"""Deltas: computed (``encode``), decoded as they arrive (``Decoder``), proved (``Prover``).

The format is FORMAT.md. Nothing here trusts a delta, opens a socket or executes what a
model holds; digests are checked by ``Prover`` and nowhere else.
"""

from edge_sdk.delta.apply import Applied, apply
from edge_sdk.delta.container import (
    DEFAULT_MEMORY_LIMIT_BYTES,
    FORMAT_VERSION,
    ByteSpan,
    FileRef,
    Header,
    Index,
)
from edge_sdk.delta.decoder import Decoder
from edge_sdk.delta.encode import DeltaSummary, encode
from edge_sdk.delta.inspect import DeltaFacts, inspect
from edge_sdk.delta.methods import NAMES as METHODS
from edge_sdk.delta.prover import ExpectedFile, Prover
from edge_sdk.delta.writer import MethodUse

__all__ = [
    "DEFAULT_MEMORY_LIMIT_BYTES",
    "FORMAT_VERSION",
    "METHODS",
    "Applied",
    "ByteSpan",
    "Decoder",
    "DeltaFacts",
    "DeltaSummary",
    "ExpectedFile",
    "FileRef",
    "Header",
    "Index",
    "MethodUse",
    "Prover",
    "apply",
    "encode",
    "inspect",
]
