"""The device's side of MetadataService.Get."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from edge_sdk.protos import metadata_v1_pb2 as wire
from edge_sdk.protos import metadata_v1_pb2_grpc as stubs
from edge_sdk.rpc import typed_errors

_GET_S = 120.0  # for one file, however it comes


class MetadataLink:
    """Signed metadata by name, from whoever the channel leads to."""

    def __init__(self, channel: grpc.Channel, peer: str) -> None:
        self._stub = stubs.MetadataServiceStub(channel)
        self._peer = peer

    def fetch(self, name: str) -> Iterator[bytes]:
        """The file as it comes. Raises: NotFoundError, UnavailableError."""
        call = self._stub.Get(wire.GetRequest(name=name), timeout=_GET_S)
        try:
            with typed_errors(self._peer):
                for frame in call:
                    yield frame.data
        finally:
            call.cancel()
