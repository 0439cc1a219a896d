"""Factory certificates: believed of manufacturers that are configured, and only of who has the
key."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from distributor.identity import Authority, check_factory, make_authority
from distributor.identity.authority import vouch_for
from edge_sdk.base import EdgeError, FormatError, TrustError
from edge_sdk.identity import make_key, make_request, prove, to_der
from tests.support.enrolled import factory_device

MAKER = make_authority()
LINE = make_authority()  # an issuer below the maker
REQUEST = make_request(make_key(), "device", "gate-7")
NOW_S = time.time()


def _device(by: Authority, serial: str = "SN-7", *, ended: bool = False) -> tuple[bytes, bytes]:
    """A key (PEM) and its certificate (DER)."""
    a_year_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=365)
    made = factory_device(by, serial, ended=a_year_ago if ended else None)
    return made.key, to_der(made.chain)[0]


def _check(chain: list[bytes], proof: bytes, request: bytes = REQUEST) -> str:
    return check_factory(chain, request, proof, authorities=MAKER.certificate, now_s=NOW_S)


def test_the_device_is_known_by_its_serial_number() -> None:
    """Directly below the manufacturer, or below an issuer that comes along."""
    key, certificate = _device(MAKER)
    assert _check([certificate], prove(key, REQUEST)) == "SN-7"
    key, certificate = _device(LINE, "SN-8")
    between = to_der(vouch_for(MAKER, LINE))[0]
    assert _check([certificate, between], prove(key, REQUEST)) == "SN-8"


def test_others_are_refused() -> None:
    """Another manufacturer, another key, a proof for another request, a date that is over, a
    device that plays issuer."""
    key, certificate = _device(MAKER)
    other_key, other = _device(make_authority())
    child_key, child = _device(Authority(certificate=LINE.certificate, key=LINE.key))
    cases: list[tuple[list[bytes], bytes]] = [
        ([other], prove(other_key, REQUEST)),
        ([certificate], prove(other_key, REQUEST)),
        ([certificate], prove(key, make_request(make_key(), "device", "gate-8"))),
        ([certificate], b""),
        ([_device(MAKER, ended=True)[1]], prove(key, REQUEST)),
        ([child, certificate], prove(child_key, REQUEST)),
        ([child], prove(child_key, REQUEST)),
    ]
    for chain, proof in cases:
        with pytest.raises(TrustError):
            _check(chain, proof)
    for chain in ([], [certificate] * 5, [b"junk"]):
        with pytest.raises(EdgeError):
            _check(chain, prove(key, REQUEST))
    with pytest.raises(FormatError):
        prove(b"junk", REQUEST)
