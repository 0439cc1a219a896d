"""The calls that bring somebody in: nothing is sent to who cannot be the fleet of the token."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge_sdk.base import TrustError, UnavailableError, UsageError
from edge_sdk.identity import (
    Issued,
    check_authority,
    check_root,
    enrol,
    first_contact,
    make_key,
    renew,
    renew_expired,
)
from tests.edge_sdk.identity.test_token import TOKEN
from tests.support.enrolled import SecuredFleet, identity_of, secured_fleet

pytestmark = pytest.mark.distributor


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredFleet]:
    with secured_fleet(tmp_path_factory.mktemp("s")) as one:
        yield one


def test_the_whole_way(fleet: SecuredFleet) -> None:
    """First contact, enrolment, renewal over the connection, renewal by the key."""
    token = fleet.token()
    key = make_key()
    anchors = first_contact(token)
    assert anchors.root == b""
    answer = enrol(token, anchors, key, "gate-1")
    assert isinstance(answer, Issued)
    identity = identity_of(token, key, answer)
    for again in (renew(identity), renew_expired(identity)):
        assert identity_of(token, key, again).facts.name == "gate-1"
    assert key.decode() not in repr(identity)


def test_other_authorities_and_roots() -> None:
    """Only the authority and the root that the token names are believed."""
    with pytest.raises(TrustError, match="nothing was sent"):
        check_authority(TOKEN, (b"another",))
    with pytest.raises(TrustError):
        check_authority(TOKEN, ())
    check_root(TOKEN, b"whatever, where the token names none")
    with pytest.raises(TrustError, match="TUF root"):
        check_root(replace(TOKEN, root="01" * 32), b"another")


def test_nobody_there() -> None:
    """An address without anybody, or with somebody who speaks no TLS, is unavailable; a socket
    file is no enrolment address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(UnavailableError, match="enrolment service"):
        first_contact(replace(TOKEN, enrolment_address=f"127.0.0.1:{port}"))
    with pytest.raises(UsageError, match="HOST:PORT"):
        first_contact(replace(TOKEN, enrolment_address="unix:/nowhere"))
