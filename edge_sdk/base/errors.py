"""The error families of the whole project.

A class says what the caller can do about it; the message says what is wrong with which
input and what to do; ``facts`` carry the details for machines. Each class holds the exit
code of a command that ends with it and the *name* of the gRPC status that carries it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EdgeError(Exception):
    """Base of every error that this project raises on purpose.

    The constructor takes one message and keyword facts only, so that instances survive
    pickling: an exception that does not would break a whole process pool.
    """

    exit_code: ClassVar[int] = 1
    grpc_status: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, /, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)

    @property
    def reason(self) -> str:
        """The machine-readable name that travels in ``google.rpc.ErrorInfo`` and ``--json``."""
        return type(self).__name__


def _rebuild(cls: type[EdgeError], message: str, facts: dict[str, Any]) -> EdgeError:
    return cls(message, **facts)


class UsageError(EdgeError):
    """The call itself is wrong: an argument is missing, unknown or contradicts another."""

    exit_code = 2
    grpc_status = "INVALID_ARGUMENT"


class FormatError(EdgeError):
    """A file or document is not what it claims to be: damaged, truncated or hostile."""

    exit_code = 3
    grpc_status = "INVALID_ARGUMENT"


class DeltaError(EdgeError):
    """A delta cannot be decoded: damaged, truncated, unknown version or method, over a limit."""

    exit_code = 3
    grpc_status = "DATA_LOSS"


class ProofError(EdgeError):
    """Bytes do not have the digest that was promised for them."""

    exit_code = 4
    grpc_status = "DATA_LOSS"


class WrongSourceError(ProofError):
    """The source given is not the one that the delta was made from."""

    grpc_status = "FAILED_PRECONDITION"


class TrustError(EdgeError):
    """A statement was not made by who had to make it, or is older than one already seen."""

    exit_code = 4
    grpc_status = "PERMISSION_DENIED"


class UnauthenticatedError(TrustError):
    """The call says nothing about who makes it, or something that proves nobody."""

    grpc_status = "UNAUTHENTICATED"


class UnavailableError(EdgeError):
    """A peer cannot be reached, timed out or is not ready; trying again can help."""

    exit_code = 5
    grpc_status = "UNAVAILABLE"


class BusyError(UnavailableError):
    """The peer is at a limit; the same call can work after ``retry_after_s`` seconds."""

    grpc_status = "RESOURCE_EXHAUSTED"


class RefusedError(EdgeError):
    """A gate or a policy says no."""

    exit_code = 6
    grpc_status = "FAILED_PRECONDITION"


class ForbiddenError(RefusedError):
    """The caller's roles do not allow this; somebody who administers can change that."""

    grpc_status = "PERMISSION_DENIED"


class NotFoundError(EdgeError):
    """There is no such thing."""

    exit_code = 7
    grpc_status = "NOT_FOUND"


class ConflictError(EdgeError):
    """The thing is already there, with other content."""

    exit_code = 7
    grpc_status = "ALREADY_EXISTS"


class ResourceError(EdgeError):
    """Not enough disk, memory or quota."""

    exit_code = 8
    grpc_status = "RESOURCE_EXHAUSTED"


def error_classes() -> dict[str, type[EdgeError]]:
    """Every error class that is loaded, by its name."""
    found: dict[str, type[EdgeError]] = {}
    waiting: list[type[EdgeError]] = [EdgeError]
    while waiting:
        one = waiting.pop()
        found[one.__name__] = one
        waiting.extend(one.__subclasses__())
    return found
