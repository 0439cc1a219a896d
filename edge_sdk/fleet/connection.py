"""One connection to a distributor: typed errors, deadlines, and retries of what is safe."""

from __future__ import annotations

import getpass
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from edge_sdk.base import UnavailableError
from edge_sdk.protos import fleet_v1_pb2_grpc as service
from edge_sdk.protos import metadata_v1_pb2_grpc as metadata_service
from edge_sdk.rpc import Backoff, Credentials, open_channel, retry_after_s, typed_errors

Answer = TypeVar("Answer")

_ASKED_S_MAX = 30.0  # a person or a pipeline waits: longer, and they are told at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a call may take and how often it is tried again.

    deadline_s: of one unary call. attempts: in all, of something safe to repeat; the delays
    between them add up to about 12 s at most.
    """

    deadline_s: float = 30.0
    attempts: int = 6
    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=0.4, cap_s=5.0))


def default_operator() -> str:
    """The login name, where metadata of a call can carry it (printable ASCII)."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = ""
    return name if name.isascii() and name.isprintable() and name else "operator"


class Connection:
    """A channel to the operators' listener of a distributor at ``address``.

    Raises: UsageError, RefusedError (see ``edge_sdk.rpc.open_channel``).
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        patience: Patience,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self.patience = patience
        self._sleep = sleep
        self._chance = chance or (lambda: secrets.randbelow(1 << 20) / (1 << 20))
        self._peer = f"the distributor at {address}"
        self._channel = open_channel(address, credentials)
        self.stub = service.FleetServiceStub(self._channel)
        self.metadata = metadata_service.MetadataServiceStub(self._channel)

    @property
    def channel(self) -> grpc.Channel:
        """For the stubs of other services than the fleet's own."""
        return self._channel

    def close(self) -> None:
        self._channel.close()

    def once(self, call: Callable[[], Answer]) -> Answer:
        """One call that must not be repeated. Raises: EdgeError of every kind."""
        with typed_errors(self._peer):
            return call()

    def once_streamed(self, call: Callable[[], Iterator[Answer]]) -> Iterator[Answer]:
        """A stream that must not be opened again. Raises: EdgeError of every kind."""
        with typed_errors(self._peer):
            yield from call()

    def repeat(self, call: Callable[[], Answer]) -> Answer:
        """A call that is safe to repeat: tried again while the distributor is away."""
        for attempt in range(self.patience.attempts - 1):
            try:
                return self.once(call)
            except UnavailableError as error:  # noqa: PERF203 - the loop is the retry
                self.pause(attempt, error)
        return self.once(call)

    def follow(
        self,
        open_stream: Callable[[], Iterator[Answer]],
        *,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Iterator[Answer]:
        """A stream that is opened again when it breaks; every message begins the count anew.

        Ends when the stream ends well. Raises: EdgeError; UnavailableError at once where
        ``give_up`` says so.
        """
        attempt = 0
        while True:
            try:
                with typed_errors(self._peer):
                    for message in open_stream():
                        attempt = 0
                        yield message
                return
            except UnavailableError as error:  # noqa: PERF203 - the loop is the retry
                attempt += 1
                if give_up() or attempt >= self.patience.attempts:
                    raise
                self.pause(attempt - 1, error)

    def pause(self, attempt: int, after: UnavailableError | None = None) -> None:
        """Waits before the next of several attempts: longer each time, at random, and at least as
        long as the distributor asks for, which may be busy, not away."""
        if after is not None and retry_after_s(after) > _ASKED_S_MAX:
            raise after
        self._sleep(self.patience.backoff.delay_s(attempt, self._chance(), after=after))
