"""Every call of a local server passes here first: may whoever asks call that method?"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status

from device_agent.access.apps import AppTokens
from device_agent.access.roles import Role, may_call
from device_agent.access.threads import DoorThreads, refuse_here
from edge_sdk.base import BusyError, EdgeError, TrustError, UnauthenticatedError
from edge_sdk.rpc import bearer_token, to_status

_AGAIN_S = 1.0


class Guard(grpc.ServerInterceptor):
    """``roles``: of whoever comes in by this socket. None: the call's token says it."""

    def __init__(
        self, roles: Collection[Role] | None = None, tokens: AppTokens | None = None
    ) -> None:
        self._roles = None if roles is None else frozenset(roles)
        self._tokens = tokens
        self._threads: DoorThreads | None = None

    def admit_to(self, threads: DoorThreads) -> None:
        """Before the server starts: apps share its threads, and none takes all of them."""
        self._threads = threads

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        metadata = details.invocation_metadata
        try:
            self.check(details.method, metadata)
            if self._threads is not None:
                # On a socket nobody is told apart.
                self._threads.admit("" if self._roles is not None else bearer_token(metadata))
        except EdgeError as error:
            if self._threads is not None:
                refuse_here()
            return _refusing(error)
        return continuation(details)

    def check(self, method: str, metadata: Any = ()) -> None:
        """Raises: UnauthenticatedError, TrustError (a role that may not)."""
        roles = self._roles if self._roles is not None else self._shown(metadata)
        if not may_call(roles, method):
            name = method.rpartition("/")[2]
            raise TrustError(f"{name} is not for the role {' or '.join(sorted(roles))}")

    def _shown(self, metadata: Any) -> frozenset[Role]:
        token = bearer_token(metadata)
        if not token:
            raise UnauthenticatedError(
                "this address asks every caller for the token of an app (metadata authorization: "
                "Bearer ...); 'edge-agent apps add' makes one"
            )
        roles = self._tokens.roles_of(token) if self._tokens is not None else frozenset()
        if not roles:
            raise UnauthenticatedError("the token is not that of an app of this device")
        return roles


class Streams:
    """Places for calls that last, on one server: so many in all, so many of one app."""

    def __init__(self, all_max: int, each_max: int) -> None:
        self._all_max, self._each_max = all_max, each_max
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    @property
    def count(self) -> int:
        with self._lock:
            return sum(self._open.values())

    @contextmanager
    def place(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Raises: BusyError."""
        app = bearer_token(context.invocation_metadata())  # on a socket nobody is told apart
        with self._lock:
            if sum(self._open.values()) >= self._all_max:
                raise BusyError(f"{self._all_max} streams are open already", retry_after_s=_AGAIN_S)
            if app and self._open[app] >= self._each_max:
                raise BusyError(
                    f"{self._each_max} streams of this app are open already",
                    retry_after_s=_AGAIN_S,
                )
            self._open[app] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[app] -= 1
                if not self._open[app]:
                    del self._open[app]


def _refusing(error: EdgeError) -> grpc.RpcMethodHandler[Any, Any]:
    """A stream both ways: it is answered without waiting for a request that may never come."""

    def refuse(_requests: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(rpc_status.to_status(to_status(error)))
        raise AssertionError  # abort raises; this line is for the type checker

    return grpc.stream_stream_rpc_method_handler(refuse)
