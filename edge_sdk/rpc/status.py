"""Errors across the wire: a gRPC status with ``google.rpc.ErrorInfo``, and back.

The reason in ErrorInfo is the name of the error's class, the same name that ``--json`` and
Python show. Where an error says when to ask again, ``google.rpc.RetryInfo`` says it as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from edge_sdk.base import (
    BusyError,
    ConflictError,
    EdgeError,
    NotFoundError,
    ProofError,
    RefusedError,
    ResourceError,
    TrustError,
    UnavailableError,
    UsageError,
    error_classes,
)
from edge_sdk.rpc.backoff import retry_after_s

DOMAIN = "edge-model-sdk"
_DEFECT = "the peer failed in a way it did not expect"

_BY_STATUS: dict[grpc.StatusCode, type[EdgeError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.ABORTED: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceError,
    grpc.StatusCode.INVALID_ARGUMENT: UsageError,
    grpc.StatusCode.OUT_OF_RANGE: UsageError,
    grpc.StatusCode.UNIMPLEMENTED: UsageError,
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: TrustError,
    grpc.StatusCode.UNAUTHENTICATED: TrustError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.DATA_LOSS: ProofError,
}


def to_status(error: BaseException) -> status_pb2.Status:
    """The status that carries ``error``. What is not an EdgeError shows nothing of itself."""
    if not isinstance(error, EdgeError):
        return status_pb2.Status(code=code_pb2.INTERNAL, message=_DEFECT)
    detail = any_pb2.Any()
    detail.Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata={key: str(value) for key, value in error.facts.items()},
        )
    )
    details = [detail]
    asked_s = retry_after_s(error)
    if asked_s:
        wait = any_pb2.Any()
        wait.Pack(error_details_pb2.RetryInfo(retry_delay=_duration(asked_s)))
        details.append(wait)
    code = code_pb2.Code.Value(error.grpc_status)
    return status_pb2.Status(code=code, message=error.message, details=details)


def _duration(seconds: float) -> duration_pb2.Duration:
    found = duration_pb2.Duration()
    found.FromNanoseconds(int(seconds * 1e9))
    return found


def from_rpc_error(error: grpc.RpcError, *, peer: str) -> EdgeError:
    """The typed error that a call ended with; ``peer`` names the other side in the message."""
    code = error.code()
    message = error.details() or code.name
    info, wait_s = _details_of(error)
    kind = _BY_STATUS.get(code, EdgeError)
    if wait_s and code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        kind = BusyError
    facts = {"retry_after_s": f"{wait_s:g}"} if wait_s else {}
    if info is not None:
        return error_classes().get(info.reason, kind)(message, **{**facts, **info.metadata})
    if code == grpc.StatusCode.UNAVAILABLE:
        cause = message.rpartition(": ")[2]  # before it stands what gRPC went through
        message = f"cannot reach {peer}: {cause}; is it running there?"
    elif code == grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"{peer} did not answer in time"
    elif code == grpc.StatusCode.UNIMPLEMENTED:
        message = f"{peer} does not offer this call: {message}"
    else:
        message = f"{peer}: {message}"
    return kind(message, **facts)


def _details_of(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo | None, float]:
    """What one of us says of its error (None: nothing, or nothing that can be read), and for how
    many seconds it wants to be left alone."""
    found: error_details_pb2.ErrorInfo | None = None
    wait_s = 0.0
    try:
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            info, wait = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
                found = info
            elif detail.Is(wait.DESCRIPTOR) and detail.Unpack(wait):
                wait_s = wait.retry_delay.seconds + wait.retry_delay.nanos / 1e9
    except (ValueError, DecodeError):
        pass
    return found, wait_s


@contextmanager
def typed_errors(peer: str) -> Iterator[None]:
    """Turns a gRPC error raised in the block, also while iterating a stream, into ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer=peer) from None
