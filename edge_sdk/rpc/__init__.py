"""How two processes of this project talk gRPC: channels, errors on the wire, back-off.

The only room below the doors that knows gRPC; it never knows what is said.
"""

from edge_sdk.rpc.address import check_address, check_local
from edge_sdk.rpc.backoff import Backoff, retry_after_s
from edge_sdk.rpc.credentials import (
    CHANNEL_OPTIONS,
    DEVICE_KEY,
    FRAME_BYTES,
    MESSAGE_BYTES_MAX,
    METADATA_BYTES_MAX,
    OPERATOR_KEY,
    SERVER_OPTIONS,
    Credentials,
    Tls,
    open_channel,
    small_messages,
)
from edge_sdk.rpc.limits import OTHER, Admission, MethodLimits, Rate, limits_of
from edge_sdk.rpc.plaintext import allow_plaintext, check_plaintext, plaintext_for_tests
from edge_sdk.rpc.status import from_rpc_error, to_status, typed_errors
from edge_sdk.rpc.tokens import AUTHORIZATION, TOKEN_VARIABLE, app_token, bearer_token

__all__ = [
    "AUTHORIZATION",
    "CHANNEL_OPTIONS",
    "DEVICE_KEY",
    "FRAME_BYTES",
    "MESSAGE_BYTES_MAX",
    "METADATA_BYTES_MAX",
    "OPERATOR_KEY",
    "OTHER",
    "SERVER_OPTIONS",
    "TOKEN_VARIABLE",
    "Admission",
    "Backoff",
    "Credentials",
    "MethodLimits",
    "Rate",
    "Tls",
    "allow_plaintext",
    "app_token",
    "bearer_token",
    "check_address",
    "check_local",
    "check_plaintext",
    "from_rpc_error",
    "limits_of",
    "open_channel",
    "plaintext_for_tests",
    "retry_after_s",
    "small_messages",
    "to_status",
    "typed_errors",
]
