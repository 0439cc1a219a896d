"""Enrolment flood: somebody calls where devices enrol, to keep them from it.

Nobody is known there yet: all that tells callers apart is the machine that they call from.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distributor.services import Limits, listener
from edge_sdk.rpc import MethodLimits, Rate
from tests.support.enrolled import SecuredFleet, secured_fleet
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.distributor


@contextmanager
def flood(fleet: SecuredFleet, folder: Path, got: dict[str, int]) -> Iterator[None]:
    """At its height within the block; what it got is in ``got`` after it."""
    token = fleet.token(name="thief")
    fleet.enrolled("thief", token=token)  # used up
    authorities = folder / "authorities.pem"
    authorities.write_bytes(fleet.folder.load().roots)
    command = [sys.executable, "-m", "tests.support.enrolment_flood", token.enrolment_address]
    with subprocess.Popen(
        [*command, str(authorities), token.secret],
        cwd=ROOT,
        env={**os.environ, "GRPC_VERBOSITY": "ERROR", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"begun\n"
            yield
            process.stdin.close()
            got.update(json.loads(process.stdout.readline()))
        finally:
            process.kill()


def test_an_honest_device_comes_in_meanwhile(tmp_path: Path) -> None:
    """Calls above the rate of the flood's machine are refused, none of them comes in, and who
    calls from another machine is answered as ever."""
    got: dict[str, int] = {}
    took_s: list[float] = []
    with secured_fleet(tmp_path / "fleet") as fleet:
        tokens = [fleet.token() for _ in range(10)]
        with flood(fleet, tmp_path, got):
            for number, token in enumerate(tokens):
                began_s = time.monotonic()
                fleet.enrolled(f"honest-{number}", token=token)
                took_s.append(time.monotonic() - began_s)
        with fleet.operator() as operator:
            names = {one.name for one in operator.identities.identities(kind="device")}
    assert names == {"thief", *(f"honest-{number}" for number in range(10))}
    assert sorted(took_s)[8] < 3.0  # measured: 0.03 to 0.2, beside other work
    assert got["_wrong RESOURCE_EXHAUSTED"]
    assert not [said for said in got if said.endswith(" OK")]
    assert got["_too_large RESOURCE_EXHAUSTED"]


def test_control_without_limits_all_of_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same flood where no limit holds: each wrong token is looked up."""
    wide = MethodLimits(message_bytes=1 << 20, each=1 << 20, all=1 << 20)
    names = ("Trust", "Enrol", "RenewExpired")
    none = Limits(
        table={f"/edge.identity.v1.EnrolmentService/{name}": wide for name in names},
        rate=Rate(burst=300, per_s=1e9),
    )
    by_kind = listener.limits_for
    monkeypatch.setattr(listener, "limits_for", lambda kind: by_kind(kind) if kind else none)
    got: dict[str, int] = {}
    with secured_fleet(tmp_path / "fleet") as fleet, flood(fleet, tmp_path, got):
        pass
    assert not [said for said in got if said.endswith("RESOURCE_EXHAUSTED")]
    assert sum(count for said, count in got.items() if said.startswith("_wrong")) > 400


def test_who_connects_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections without a handshake, and with one but without a call, are closed; a device
    comes in beside them and after."""
    monkeypatch.setattr(listener, "HANDSHAKE_MS", 5000)
    monkeypatch.setattr(listener, "NEWCOMER_IDLE_MS", 2000)
    with secured_fleet(tmp_path / "fleet") as fleet:
        token = fleet.token(uses=2)
        host, _, port = token.enrolment_address.rpartition(":")
        raw = [socket.create_connection((host, int(port)), 10) for _ in range(50)]
        spoken = [_handshaken(host, int(port)) for _ in range(10)]
        fleet.enrolled("honest-1", token=token)
        left = set(raw + spoken)
        end_s = time.monotonic() + 30
        while left and time.monotonic() < end_s:
            readable, _, _ = select.select(list(left), [], [], 1.0)
            left -= {one for one in readable if _is_closed(one)}
        assert not left
        fleet.enrolled("honest-2", token=token)
        for one in raw + spoken:
            one.close()


def _handshaken(host: str, port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    secured = context.wrap_socket(socket.create_connection((host, port), 10))
    secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4\0" + bytes(4))
    secured.settimeout(5)
    return secured


def _is_closed(one: socket.socket) -> bool:
    try:
        return not one.recv(1 << 16)
    except (ConnectionError, ssl.SSLError):
        return True
