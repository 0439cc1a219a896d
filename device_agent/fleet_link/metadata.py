"""The device's side of MetadataService.Get."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from device_agent.fleet_link.calls import Calls
from device_agent.fleet_link.stalled import unless_stalled
from edge_sdk.protos import metadata_v1_pb2 as wire
from edge_sdk.protos import metadata_v1_pb2_grpc as stubs
from edge_sdk.rpc import typed_errors

_GET_S = 600.0  # for one file, however it comes
_STALL_S = 30.0


class MetadataLink:
    """Signed metadata by name, from whoever the channel leads to."""

    def __init__(
        self, channel: grpc.Channel, peer: str, calls: Calls, *, stall_s: float = _STALL_S
    ) -> None:
        self._peer = peer
        self._calls = calls
        self._stall_s = stall_s
        self.use(channel)

    def use(self, channel: grpc.Channel) -> None:
        """From now on."""
        self._stub = stubs.MetadataServiceStub(channel)

    def fetch(self, name: str) -> Iterator[bytes]:
        """The file as it comes. Raises: NotFoundError, UnavailableError."""
        request = wire.GetRequest(name=name)
        call = self._calls.begin(lambda: self._stub.Get(request, timeout=_GET_S))
        try:
            with typed_errors(self._peer):
                for frame in unless_stalled(call, self._stall_s):
                    yield frame.data
        finally:
            call.cancel()
