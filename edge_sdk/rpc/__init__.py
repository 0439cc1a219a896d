"""How two processes of this project talk gRPC: channels, errors on the wire, back-off.

The only room below the doors that knows gRPC; it never knows what is said.
"""

from edge_sdk.rpc.backoff import Backoff, retry_after_s
from edge_sdk.rpc.credentials import (
    CHANNEL_OPTIONS,
    DEVICE_KEY,
    FRAME_BYTES,
    MESSAGE_BYTES_MAX,
    OPERATOR_KEY,
    SERVER_OPTIONS,
    Credentials,
    check_local,
    open_channel,
    refuse_live,
)
from edge_sdk.rpc.limits import OTHER, Admission, MethodLimits, Rate, limits_of
from edge_sdk.rpc.status import from_rpc_error, to_status, typed_errors

__all__ = [
    "CHANNEL_OPTIONS",
    "DEVICE_KEY",
    "FRAME_BYTES",
    "MESSAGE_BYTES_MAX",
    "OPERATOR_KEY",
    "OTHER",
    "SERVER_OPTIONS",
    "Admission",
    "Backoff",
    "Credentials",
    "MethodLimits",
    "Rate",
    "check_local",
    "from_rpc_error",
    "limits_of",
    "open_channel",
    "refuse_live",
    "retry_after_s",
    "to_status",
    "typed_errors",
]
