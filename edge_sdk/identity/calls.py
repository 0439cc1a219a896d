"""The calls that bring somebody into a fleet and keep them there.

First contact: whoever answers shows its authority and the TUF root, both are compared with the
token, and only a second connection, which trusts that authority alone, carries the secret. A
false distributor can copy the first answer, but not prove the authority's key in the second.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_sdk.base import FormatError, TrustError, UnavailableError, UsageError
from edge_sdk.identity.certificates import read_certificate, read_request, to_der, to_pem
from edge_sdk.identity.identity import Identity
from edge_sdk.identity.keys import FactoryKey, make_request, prove
from edge_sdk.identity.names import Kind
from edge_sdk.identity.token import EnrolmentToken
from edge_sdk.protos import identity_v1_pb2 as wire
from edge_sdk.protos import identity_v1_pb2_grpc as stubs
from edge_sdk.rpc import Credentials, Tls, check_address, open_channel, typed_errors

_CALL_S = 30.0
_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """What the token vouches for: one authority (PEM) and the bytes of the TUF root, none where
    it names none."""

    authority: bytes
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and whom to trust from now on, both PEM."""

    certificate: bytes
    authorities: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An operator has to approve first; the same call succeeds once that is done."""

    retry_after_s: float


def first_contact(token: EnrolmentToken, *, deadline_s: float = _CALL_S) -> Anchors:
    """Learns whom to trust, and checks it against the token. Sends nothing
    but which root is meant, which is no secret.

    Raises: TrustError (not the fleet that made the token), UnavailableError.
    """
    shown = _shown_certificate(token.enrolment_address)
    with _enrolment(token.enrolment_address, shown) as stub:
        answer = stub.Trust(wire.TrustRequest(root=bytes.fromhex(token.root)), timeout=deadline_s)
    authority = check_authority(token, tuple(answer.authorities))
    check_root(token, answer.root)
    # What the token does not name, nobody has vouched for: who answers here proves nothing yet.
    return Anchors(authority=to_pem([authority]), root=answer.root if token.root else b"")


def check_authority(token: EnrolmentToken, shown: tuple[bytes, ...]) -> bytes:
    """The one of the authorities shown (DER) that the token names. Raises: TrustError."""
    for one in shown:
        if hmac.compare_digest(hashlib.sha256(one).hexdigest(), token.authority):
            return one
    raise TrustError(
        f"what answers at {token.enrolment_address} is not the fleet of this token: its "
        "authority is another one; nothing was sent to it",
        wanted=token.authority,
    )


def check_root(token: EnrolmentToken, root: bytes) -> None:
    """Raises: TrustError."""
    found = hashlib.sha256(root).hexdigest() if root else ""
    if token.root and not hmac.compare_digest(found, token.root):
        raise TrustError(
            f"what answers at {token.enrolment_address} shows another TUF root than the token "
            "names; nothing was sent to it",
            wanted=token.root,
            got=found,
        )


def enrol(
    token: EnrolmentToken,
    anchors: Anchors,
    key: bytes,
    name: str,
    *,
    factory: FactoryKey | None = None,
    deadline_s: float = _CALL_S,
) -> Issued | Pending:
    """Asks for a first certificate for ``key`` (PEM). Repeating it with the same key is safe.

    Raises: TrustError (token or factory certificate not accepted), ConflictError (the name is
    another's), RefusedError (expired), UnavailableError.
    """
    request = make_request(key, token.kind, name)
    message = wire.EnrolRequest(request=request, secret=bytes.fromhex(token.secret))
    if factory is not None:
        message = wire.EnrolRequest(
            request=request,
            factory_chain=to_der(factory.chain),
            factory_proof=prove(factory.key, request),
        )
    with _enrolment(token.enrolment_address, anchors.authority) as stub:
        answer = stub.Enrol(message, timeout=deadline_s)
    if not answer.certificate:
        return Pending(retry_after_s=answer.retry_after_s)
    return _issued(answer, request, kind=token.kind, name=name)


def renew(identity: Identity, *, deadline_s: float = _CALL_S) -> Issued:
    """A new certificate for one that is still valid. Raises: TrustError, UnavailableError."""
    facts = identity.facts
    request = make_request(identity.key, facts.kind, facts.name)
    address = identity.address
    channel = open_channel(address, Credentials(tls=identity.tls()))
    with channel, typed_errors(f"the distributor at {address}"):
        stub = stubs.RenewalServiceStub(channel)
        answer = stub.Renew(wire.RenewRequest(request=request), timeout=deadline_s)
    return _issued(answer, request, kind=facts.kind, name=facts.name)


def renew_expired(identity: Identity, *, deadline_s: float = _CALL_S) -> Issued:
    """A new certificate for one that is too old to connect with, proved by its key.

    Raises: TrustError (revoked), RefusedError (expired for too long), UnavailableError.
    """
    facts = identity.facts
    request = make_request(identity.key, facts.kind, facts.name)
    message = wire.RenewExpiredRequest(request=request, certificate=to_der(identity.certificate)[0])
    with _enrolment(identity.enrolment_address, identity.authorities) as stub:
        answer = stub.RenewExpired(message, timeout=deadline_s)
    return _issued(answer, request, kind=facts.kind, name=facts.name)


def _issued(answer: wire.EnrolResponse, request: bytes, *, kind: Kind, name: str) -> Issued:
    """Raises: TrustError where the answer is for another name or key."""
    certificate = to_pem([answer.certificate])
    facts = read_certificate(certificate)
    if (facts.kind, facts.name, facts.key) != (kind, name, read_request(request).key):
        raise TrustError(f"the distributor answered with a certificate that is not {name}'s")
    if not answer.authorities:
        raise FormatError("the distributor named no authority to trust")
    return Issued(certificate=certificate, authorities=to_pem(answer.authorities))


@contextmanager
def _enrolment(address: str, roots: bytes) -> Iterator[stubs.EnrolmentServiceStub]:
    channel = open_channel(address, Credentials(tls=Tls(roots=roots)))
    with channel, typed_errors(f"the enrolment service at {address}"):
        yield stubs.EnrolmentServiceStub(channel)


def _shown_certificate(address: str) -> bytes:
    """The certificate (PEM) that a listener shows, not checked in any way.

    gRPC cannot connect without checking, so the next connection trusts exactly this one.
    """
    check_address(address)
    if address.startswith("unix:"):
        raise UsageError(f"an enrolment address is HOST:PORT, not {address}")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])  # without it a gRPC server complains in its log
    try:
        with (
            socket.create_connection((host, int(port)), _CONNECT_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
    except OSError as error:
        raise UnavailableError(
            f"cannot reach the enrolment service at {address}: {error.strerror or error}"
        ) from None
    if not shown:
        raise UnavailableError(f"the enrolment service at {address} shows no certificate")
    return to_pem([shown])
