"""For embedded apps: run models that the agent serves, read their files, hear of switches.

Needs gRPC and NumPy only, no engine; it never loads a model itself. Begin with ``connect``.
"""

from edge_sdk.client.connection import Client, connect
from edge_sdk.client.errors import (
    NotAnAgentError,
    SequenceNotStartedError,
    VersionNotActiveError,
)
from edge_sdk.client.model import Files, Model, ModelEvent
from edge_sdk.client.prepared import PreparedCall
from edge_sdk.client.result import Result, SequenceStep
from edge_sdk.client.streaming import Answered, Stream, stream

__all__ = [
    "Answered",
    "Client",
    "Files",
    "Model",
    "ModelEvent",
    "NotAnAgentError",
    "PreparedCall",
    "Result",
    "SequenceNotStartedError",
    "SequenceStep",
    "Stream",
    "VersionNotActiveError",
    "connect",
    "stream",
]
