"""What answers at first contact: an enrolment service with whatever authority and root."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc

from distributor.identity.authority import Authority, issue_client, issue_server, make_authority
from edge_sdk.identity import EnrolmentToken, fingerprint, to_der
from edge_sdk.identity.certificates import read_request
from edge_sdk.protos import identity_v1_pb2 as wire
from edge_sdk.protos import identity_v1_pb2_grpc as stubs


@dataclass
class FalseDistributor(stubs.EnrolmentServiceServicer):
    """Shows ``authority`` and ``root``, and takes in everybody who then says a secret.

    ``heard`` has what was said to it.
    """

    root: bytes
    authority: Authority = field(default_factory=make_authority)
    heard: list[bytes] = field(default_factory=list)
    asked: int = 0

    def start(self) -> FalseDistributor:
        key, chain = issue_server(self.authority, ["127.0.0.1"])
        credentials = grpc.ssl_server_credentials([(key, chain + self.authority.certificate)])
        self._server = grpc.server(ThreadPoolExecutor(4))
        stubs.add_EnrolmentServiceServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def token(self, authority: Authority, *, root: str) -> EnrolmentToken:
        """As an honest operator made it, for the address at which this one answers."""
        return EnrolmentToken(
            enrolment_address=f"127.0.0.1:{self.port}",
            address=f"127.0.0.1:{self.port}",
            kind="device",
            name="kiosk-7",
            authority=fingerprint(to_der(authority.certificate)[0]),
            root=root,
            uses=1,
            expires_s=int(time.time()) + 3600,
            secret="5a" * 32,
        )

    def Trust(
        self, request: wire.TrustRequest, context: grpc.ServicerContext
    ) -> wire.TrustResponse:
        self.asked += 1
        return wire.TrustResponse(authorities=to_der(self.authority.certificate), root=self.root)

    def Enrol(
        self, request: wire.EnrolRequest, context: grpc.ServicerContext
    ) -> wire.EnrolResponse:
        self.heard.append(request.secret)
        asked = read_request(request.request)
        issued = issue_client(self.authority, asked, now_s=time.time(), life_s=3600)
        return wire.EnrolResponse(
            certificate=issued, authorities=to_der(self.authority.certificate)
        )
