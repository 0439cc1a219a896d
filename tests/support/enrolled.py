"""A distributor in this process that asks for certificates, and who comes to it with one."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("the distributor needs Python 3.11", allow_module_level=True)

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from distributor.identity import Authority, IdentityFolder, issue_client
from distributor.identity.authority import key_pem
from edge_sdk.fleet import Fleet, OwnIdentity
from edge_sdk.identity import (
    EnrolmentToken,
    FactoryKey,
    Identity,
    Issued,
    Kind,
    enrol,
    first_contact,
    make_key,
    make_request,
    read_request,
    to_pem,
)
from edge_sdk.protos.delivery_v1_pb2_grpc import DeliveryServiceStub
from edge_sdk.rpc import Credentials, Tls, open_channel
from tests.support.fleet_server import FleetServer, ScriptedDevice, fleet_server

DAY_S = 86_400.0


@dataclass
class SecuredFleet:
    """``data`` is the distributor's folder; ``ann`` operates it."""

    data: Path
    server: FleetServer
    ann: Identity

    @property
    def folder(self) -> IdentityFolder:
        return IdentityFolder(self.data)

    def operator(self, identity: Identity | None = None) -> Fleet:
        return Fleet(self.server.serving.operator_address, identity=identity or self.ann)

    def token(self, **wanted: object) -> EnrolmentToken:
        with self.operator() as fleet:
            text, _ = fleet.identities.create_token(**wanted)  # type: ignore[arg-type]
        return EnrolmentToken.decode(text)

    def enrolled(self, name: str, *, token: EnrolmentToken | None = None) -> Identity:
        """A device that came in with a token."""
        token = token or self.token()
        key = make_key()
        answer = enrol(token, first_contact(token), key, name)
        assert isinstance(answer, Issued)
        return identity_of(token, key, answer)

    def forged(
        self, name: str, *, kind: Kind = "device", now_s: float | None = None, life_s: float = DAY_S
    ) -> Identity:
        """With a certificate of the fleet's authority that nobody asked for."""
        key = make_key()
        request = read_request(make_request(key, kind, name))
        authorities = self.folder.load()
        began_s = time.time() if now_s is None else now_s
        made = issue_client(authorities.issuing, request, now_s=began_s, life_s=life_s)
        return Identity(
            key=key,
            certificate=to_pem([made]),
            authorities=authorities.roots,
            address=self.server.serving.device_address,
            enrolment_address=self.server.serving.enrolment_address,
        )

    def device(self, identity: Identity) -> ScriptedDevice:
        return self.device_with(identity.tls(), identity.facts.name)

    def device_with(self, tls: Tls, name: str) -> ScriptedDevice:
        channel = open_channel(self.server.serving.device_address, Credentials(tls=tls))
        self.server._channels.append(channel)
        return ScriptedDevice(name=name, stub=DeliveryServiceStub(channel))


def identity_of(token: EnrolmentToken, key: bytes, issued: Issued) -> Identity:
    return Identity(
        key=key,
        certificate=issued.certificate,
        authorities=issued.authorities,
        address=token.address,
        enrolment_address=token.enrolment_address,
    )


def factory_device(
    maker: Authority, serial: str, *, ended: dt.datetime | None = None
) -> FactoryKey:
    """What a manufacturer puts into a device; without ``ended`` it is good for ever."""
    key = ec.generate_private_key(ec.SECP256R1())
    for_ever = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, serial)]))
        .issuer_name(maker.x509.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2015, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(ended or for_ever)
        .sign(maker.key, hashes.SHA256())
    )
    return FactoryKey(chain=made.public_bytes(serialization.Encoding.PEM), key=key_pem(key))


@contextmanager
def secured_fleet(folder: Path, **settings: object) -> Iterator[SecuredFleet]:
    """With its first operator logged in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EDGE_TEST_PLAINTEXT", raising=False)
        with fleet_server(folder / "data", **settings) as server:
            text = Path(server.serving.operator_token).read_text()
            own = OwnIdentity(folder / "ann")
            ann = own.log_in(EnrolmentToken.decode(text), "ann")
            yield SecuredFleet(data=folder / "data", server=server, ann=ann)
