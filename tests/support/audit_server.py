"""A distributor that shows whatever log a test wants, signed by a key of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos import operators_v1_pb2_grpc as wire_grpc
from tests.support.audit_logs import Notary, head_of


class AuditServer(wire_grpc.AuditServiceServicer):
    """In a ``with`` block it serves at ``address``."""

    def __init__(self) -> None:
        self.notary = Notary()
        self.documents: Sequence[bytes] = ()
        self.note = ""
        self.named_key = ""
        self.earlier: list[str] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        wire_grpc.add_AuditServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def show(self, documents: Sequence[bytes]) -> None:
        """A log, consistent and signed."""
        self.documents = documents
        self.note = self.notary.note(head_of(documents))
        self.named_key = str(self.notary.key)

    def ListEntries(self, request: wire.ListEntriesRequest, context: Any) -> Iterator[wire.Entries]:
        for document in self.documents:
            yield wire.Entries(documents=[document])

    def SignedHead(self, request: wire.SignedHeadRequest, context: Any) -> wire.SignedHeadResponse:
        return wire.SignedHeadResponse(note=self.note, key=self.named_key, earlier=self.earlier)

    def __enter__(self) -> AuditServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
