"""What a call of the agent's local services may bring and keep, by method. Pure.

``message_bytes`` is of one message, ``each`` and ``all`` count streams: of one app (where a
token says which) and of one socket. ``stall_s``: how long a stream that says nothing keeps its
place once another wants it. docs/limits.md shows the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from device_agent.access.roles import ALLOWED
from edge_sdk.rpc.limits import MethodLimits

SMALL = MethodLimits(message_bytes=64 << 10)  # names, numbers, a filter
_STREAM = MethodLimits(message_bytes=64 << 10, each=8, all=24)
_TENSORS = 64 << 20
_AGENT = "/edge.agent.v1.AgentService/"
_INFERENCE = "/inference.GRPCInferenceService/"

# A request or a stream's next message that does not come: how long it keeps a thread that
# another call is waiting for.
REQUEST_S = 2.0

LOCAL_LIMITS: Mapping[str, MethodLimits] = MappingProxyType(
    {
        **dict.fromkeys(ALLOWED, SMALL),
        _AGENT + "Events": _STREAM,
        _AGENT + "Hold": _STREAM,
        _INFERENCE + "ModelInfer": MethodLimits(message_bytes=_TENSORS, each=256, all=1024),
        _INFERENCE + "ModelStreamInfer": MethodLimits(
            message_bytes=_TENSORS, each=8, all=8, stall_s=30.0
        ),
    }
)
