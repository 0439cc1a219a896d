"""Mutual TLS from end to end: who gets in, what ends a stream, what a copy of a key gets."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from distributor.identity import IdentityFolder, make_authority
from distributor.services import interceptor
from edge_sdk.base import (
    ConflictError,
    EdgeError,
    NotFoundError,
    RefusedError,
    TrustError,
    UnavailableError,
)
from edge_sdk.fleet import Cohort, OwnIdentity
from edge_sdk.identity import (
    EnrolmentToken,
    Identity,
    Issued,
    Pending,
    enrol,
    first_contact,
    make_key,
    renew,
    renew_expired,
)
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos.fleet_v1_pb2 import ListDevicesRequest, PublishRequest
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.rpc import Credentials, Tls, open_channel, typed_errors
from tests.support.artifacts import make_artifact, noise
from tests.support.enrolled import (
    DAY_S,
    SecuredFleet,
    factory_device,
    identity_of,
    secured_fleet,
)
from tests.support.fleet_server import (
    ScriptedDevice,
    publish,
    publish_parts,
    remembering,
    wait_until,
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredFleet]:
    with secured_fleet(tmp_path_factory.mktemp("s")) as one:
        yield one


def _check_in(device: ScriptedDevice, **marks: bytes) -> delivery.CheckInResponse:
    request = delivery.CheckInRequest(**marks)  # type: ignore[arg-type]
    with typed_errors("the distributor"):
        return device.stub.CheckIn(request, timeout=20)


def test_a_device_with_a_certificate(fleet: SecuredFleet) -> None:
    """A token brings a device in; its certificate says who it is, and nothing it says does."""
    device = fleet.device(fleet.enrolled("gate-1"))
    request = delivery.CheckInRequest()
    device.stub.CheckIn(request, timeout=20, metadata=(("edge-device", "gate-2"),))
    with fleet.operator() as operator:
        assert [one.device for one in operator.devices()] == ["gate-1"]
        assert [one.state for one in operator.identities.identities(kind="device")] == ["active"]


def test_who_has_no_good_certificate(fleet: SecuredFleet) -> None:
    """None, one of another authority, one expired, an operator's: each is kept out."""
    own = fleet.folder.load().roots
    stranger = make_authority()
    expired = fleet.forged("gate-x", now_s=time.time() - 10 * DAY_S)
    foreign = fleet.forged("gate-x")
    foreign = replace(foreign, authorities=own)
    cases = [
        Tls(roots=own),
        expired.tls(),
        Tls(roots=own, key=foreign.key, certificate=_by(stranger, foreign.key)),
    ]
    for tls in cases:
        with pytest.raises(UnavailableError):
            _check_in(fleet.device_with(tls, "gate-x"))
    with pytest.raises(TrustError, match="only a device's"):
        _check_in(fleet.device_with(fleet.ann.tls(), "ann"))
    with pytest.raises(UnavailableError):  # who does not know the fleet's authority sends nothing
        tls = replace(fleet.forged("gate-x").tls(), roots=stranger.certificate)
        _check_in(fleet.device_with(tls, "gate-x"))


def _by(authority: object, key: bytes) -> bytes:
    from distributor.identity import issue_client
    from edge_sdk.identity import make_request, read_request, to_pem

    request = read_request(make_request(key, "device", "gate-x"))
    made = issue_client(authority, request, now_s=time.time(), life_s=DAY_S)  # type: ignore[arg-type]
    return to_pem([made])


def test_a_device_is_no_operator(fleet: SecuredFleet) -> None:
    """A device's certificate opens nothing at the operators' door."""
    device = fleet.forged("gate-1b")
    channel = open_channel(fleet.server.serving.operator_address, Credentials(tls=device.tls()))
    with channel, pytest.raises(TrustError), typed_errors("the distributor"):
        FleetServiceStub(channel).ListDevices(ListDevicesRequest(), timeout=20)


def test_an_older_tls_is_refused_per_call(
    fleet: SecuredFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake of TLS 1.2 completes, as gRPC cannot refuse it; a call on it does not."""
    host, _, port = fleet.server.serving.enrolment_address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), 10) as raw,
        context.wrap_socket(raw) as secured,
    ):
        assert secured.version() == "TLSv1.2"
    for version in (b"TLSv1.2", None):
        auth = {} if version is None else {"ssl_tls_version": [version]}
        with pytest.raises(TrustError, match="need TLS"):
            interceptor.check_tls_version(auth)
    interceptor.check_tls_version({"ssl_tls_version": [b"TLSv1.3"]})


def test_revocation_ends_calls_and_streams(fleet: SecuredFleet) -> None:
    """A revoked device is refused at its next call, and its idle watch ends at once; so does
    the rollout that waits for it alone."""
    identity = fleet.enrolled("gate-2")
    device = fleet.device(identity)
    device.check_in()
    address = fleet.server.serving.operator_address
    with open_channel(address, Credentials(tls=fleet.ann.tls())) as channel:
        stub = remembering(FleetServiceStub(channel), fleet.data)
        publish(stub, make_artifact({"m.bin": b"weights"}, model="team/gates"))
    with fleet.operator() as operator:
        rollout = operator.rollout_create("team/gates", "1.0.0", Cohort(devices=("gate-2",)))
    followed = fleet.operator()
    states = followed.rollout_watch(rollout.rollout, timeout_s=30)
    assert next(states).state in ("building", "running")
    watch = device.stub.Watch(delivery.WatchRequest(), timeout=30)
    wakeups = fleet.server.serving.wakeups
    wait_until(lambda: wakeups.watched("device gate-2"))
    began_s = time.monotonic()
    with fleet.operator() as operator:
        assert operator.identities.revoke("gate-2", reason="stolen").state == "revoked"
    with pytest.raises(TrustError, match="stolen"), typed_errors("the distributor"):
        list(watch)
    assert time.monotonic() - began_s < 5
    *_, last = states
    followed.close()
    assert (last.state, last.devices[0].state) == ("done", "revoked")
    assert "stolen" in last.devices[0].message
    wait_until(lambda: not wakeups.watched("device gate-2"))
    with pytest.raises(TrustError, match="stolen"):
        _check_in(device)
    with pytest.raises(TrustError, match="stolen"):
        renew_expired(identity)
    # Another token brings the same name in only where it was made for it, with another key.
    with pytest.raises(ConflictError, match="--name gate-2"):
        fleet.enrolled("gate-2")
    again = fleet.enrolled("gate-2", token=fleet.token(name="gate-2"))
    _check_in(fleet.device(again))


def test_revocation_ends_a_download(fleet: SecuredFleet) -> None:
    """What a revoked device was in the middle of fetching ends as well."""
    artifact = make_artifact({"m.bin": noise(16 << 20)})
    address = fleet.server.serving.operator_address
    with open_channel(address, Credentials(tls=fleet.ann.tls())) as channel:
        publish(FleetServiceStub(channel), artifact)
    device = fleet.device(fleet.enrolled("gate-2c"))
    _check_in(device)
    digest = artifact.manifest.files[0].digest.raw
    frames = device.stub.Fetch(delivery.FetchRequest(digest=digest), timeout=30)
    got = len(next(iter(frames)).data)
    with fleet.operator() as operator:
        operator.identities.revoke("gate-2c", reason="stolen")
    with pytest.raises(TrustError, match="stolen"), typed_errors("the distributor"):
        for frame in frames:
            got += len(frame.data)
    assert 0 < got < 16 << 20


@pytest.mark.parametrize("how", ["revoked", "removed"])
def test_revocation_ends_an_upload(fleet: SecuredFleet, tmp_path: Path, how: str) -> None:
    """An operator who is thrown out in the middle of a publish hears so at once; of what came
    until then nothing stays, neither in the catalog nor in storage."""
    bob = _operator(fleet, tmp_path, f"bob-{how}", "publisher")
    artifact = make_artifact({"a.txt": noise(1000), "m.bin": noise(4 << 20)}, model="team/stolen")
    before = _objects(fleet)
    thrown_out = threading.Event()

    def parts() -> Iterator[PublishRequest]:
        """Up to the middle of the second file; then nothing, and no end."""
        yield from itertools.islice(publish_parts(artifact), 30)
        thrown_out.wait(30)

    address = fleet.server.serving.operator_address
    with open_channel(address, Credentials(tls=bob.tls())) as channel, fleet.operator() as ann:
        call = FleetServiceStub(channel).Publish.future(parts(), timeout=30)
        wait_until(lambda: _objects(fleet) != before)
        if how == "revoked":
            ann.identities.revoke(f"bob-{how}", kind="operator", reason="stolen")
        else:
            ann.operators.remove(f"bob-{how}")
        with pytest.raises(TrustError, match="refused: "), typed_errors("the distributor"):
            call.result()
        thrown_out.set()
        with pytest.raises(NotFoundError):
            ann.models("team/stolen")
        again = FleetServiceStub(channel).Publish.future(publish_parts(artifact), timeout=30)
        with pytest.raises(TrustError, match="refused: "), typed_errors("the distributor"):
            again.result()
    wait_until(lambda: _objects(fleet) == before)


def _operator(fleet: SecuredFleet, folder: Path, name: str, *roles: str) -> Identity:
    with fleet.operator() as ann:
        ann.operators.add(name, roles)
    token = fleet.token(kind="operator", name=name)
    return OwnIdentity(folder / name).log_in(token, name)


def _objects(fleet: SecuredFleet) -> set[str]:
    return {path.name for path in (fleet.data / "objects").rglob("*") if path.is_file()}


def test_a_certificate_that_expires_on_an_open_connection(fleet: SecuredFleet) -> None:
    """An open connection does not outlive its certificate: calls and the watch are refused."""
    identity = fleet.forged("gate-3", now_s=time.time() - DAY_S + 3, life_s=DAY_S)
    device = fleet.device(identity)
    _check_in(device)
    watch = device.stub.Watch(delivery.WatchRequest(), timeout=30)
    with pytest.raises(TrustError, match="expired"), typed_errors("the distributor"):
        list(watch)
    with pytest.raises((TrustError, UnavailableError)):
        _check_in(device)


def test_copies_of_a_key(fleet: SecuredFleet) -> None:
    """Two that use one key are noticed as soon as their check-ins differ; neither is believed
    then, and nothing that the copy said is kept."""
    identity = fleet.enrolled("gate-4")
    device, copy = fleet.device(identity), fleet.device(identity)
    marks = [bytes([number]) * 32 for number in range(4)]
    _check_in(device, previous_mark=marks[0], mark=marks[0])
    _check_in(device, previous_mark=marks[0], mark=marks[1])
    _check_in(device, previous_mark=marks[0], mark=marks[1])  # the answer was lost
    watch = device.stub.Watch(delivery.WatchRequest(), timeout=30)
    wait_until(lambda: fleet.server.serving.wakeups.watched("device gate-4"))
    with pytest.raises(TrustError, match="two places"), typed_errors("the distributor"):
        request = delivery.CheckInRequest(
            previous_mark=marks[0], mark=marks[2], labels={"owner": "thief"}
        )
        copy.stub.CheckIn(request, timeout=20)
    with pytest.raises(TrustError, match="two places"), typed_errors("the distributor"):
        list(watch)
    with pytest.raises(TrustError, match="two places"):
        _check_in(device, previous_mark=marks[1], mark=marks[3])
    with fleet.operator() as operator:
        (seen,) = operator.identities.identities(kind="device", state="cloned")
        assert (seen.name, seen.reason) == ("gate-4", "its key is used in two places")
        (kept,) = [one for one in operator.devices() if one.device == "gate-4"]
        assert "owner" not in kept.labels


def test_a_copy_without_the_marks(fleet: SecuredFleet) -> None:
    """Who has the key alone, and not what the device kept beside it, is noticed at once."""
    identity = fleet.enrolled("gate-5")
    _check_in(fleet.device(identity), previous_mark=b"a" * 32, mark=b"a" * 32)
    with pytest.raises(TrustError, match="two places"):
        _check_in(fleet.device(identity))


def test_a_lost_answer_and_a_thief(fleet: SecuredFleet) -> None:
    """A token is bound to the first key: that one may ask again, another one may not."""
    token = fleet.token()
    key = make_key()
    first = enrol(token, first_contact(token), key, "gate-6")
    again = enrol(token, first_contact(token), key, "gate-6")
    assert isinstance(first, Issued)
    assert isinstance(again, Issued)
    with pytest.raises(TrustError, match="other keys"):
        enrol(token, first_contact(token), make_key(), "gate-6b")
    with pytest.raises(TrustError, match="as gate-6"):
        enrol(token, first_contact(token), key, "gate-7b")
    assert not [one for one in _names(fleet) if one.endswith("b") and one != "gate-1b"]


def _names(fleet: SecuredFleet) -> list[str]:
    with fleet.operator() as operator:
        return [one.name for one in operator.identities.identities(kind="device")]


def test_a_false_distributor_gets_nothing(fleet: SecuredFleet, tmp_path: Path) -> None:
    """At first contact whoever answers has to be the fleet of the token: one that shows its own
    authority is refused, and so is one that copies the answer of the right one."""
    token = fleet.token()
    with secured_fleet(tmp_path) as false:
        there = false.server.serving.enrolment_address
        with pytest.raises(TrustError, match="nothing was sent"):
            first_contact(replace(token, enrolment_address=there))
        anchors = first_contact(token)  # what the right one shows, the false one can copy
        with pytest.raises(UnavailableError):
            enrol(replace(token, enrolment_address=there), anchors, make_key(), "gate-8")
    with pytest.raises(TrustError, match="TUF root"):
        first_contact(replace(token, root="0" * 64))
    assert "gate-8" not in _names(fleet)


def test_waiting_for_an_operator(fleet: SecuredFleet) -> None:
    """With such a token a device waits until it is let in; one expected beforehand does not."""
    token = fleet.token(approval=True, uses=2)
    key = make_key()
    anchors = first_contact(token)
    assert isinstance(enrol(token, anchors, key, "gate-9"), Pending)
    with fleet.operator() as operator:
        assert [one.name for one in operator.identities.identities(state="pending")] == ["gate-9"]
        assert operator.identities.approve("gate-9").state == "active"
        assert operator.identities.approve("gate-10").state == "approved"
    assert isinstance(enrol(token, anchors, key, "gate-9"), Issued)
    assert isinstance(enrol(token, anchors, make_key(), "gate-10"), Issued)


def test_a_factory_certificate(tmp_path: Path) -> None:
    """A device of a manufacturer that is known comes in without any secret of the fleet, once an
    operator approves its serial number; another one does not."""
    maker = make_authority()
    (tmp_path / "makers.pem").write_bytes(maker.certificate)
    with secured_fleet(tmp_path, factory_authorities=str(tmp_path / "makers.pem")) as fleet:
        with fleet.operator() as operator:
            token = EnrolmentToken.decode(operator.identities.factory_token())
            assert token.secret == ""
            anchors = first_contact(token)
            key, factory = make_key(), factory_device(maker, "SN-7")
            assert isinstance(enrol(token, anchors, key, "gate-7", factory=factory), Pending)
            (waiting,) = operator.identities.identities(state="pending")
            assert waiting.factory_serial == "SN-7"
            operator.identities.approve("gate-7", factory_serial="SN-7")
            issued = enrol(token, anchors, key, "gate-7", factory=factory)
            assert isinstance(issued, Issued)
            _check_in(fleet.device(identity_of(token, key, issued)))
            again = factory_device(maker, "SN-9")
            assert isinstance(enrol(token, anchors, make_key(), "gate-9", factory=again), Pending)
            with pytest.raises(RefusedError, match="SN-9 waits already as gate-9"):
                enrol(token, anchors, make_key(), "gate-10", factory=again)
        with pytest.raises(TrustError, match="no manufacturer"):
            other = factory_device(make_authority(), "SN-8")
            enrol(token, anchors, make_key(), "gate-8", factory=other)
        with pytest.raises(EdgeError):  # the empty secret is none
            enrol(token, anchors, make_key(), "gate-8")


def test_an_outside_authority(tmp_path: Path) -> None:
    """Devices of another authority that is believed come in, are revoked like others, and are
    left to it when it is time to renew."""
    outside = make_authority()
    (tmp_path / "outside.pem").write_bytes(outside.certificate)
    settings = {"client_authorities": str(tmp_path / "outside.pem")}
    with secured_fleet(tmp_path, **settings) as fleet:
        key = make_key()
        tls = Tls(roots=fleet.folder.load().roots, key=key, certificate=_by(outside, key))
        device = fleet.device_with(tls, "gate-x")
        assert not _check_in(device).renew_certificate
        with fleet.operator() as operator:
            operator.identities.revoke("gate-x")
        with pytest.raises(TrustError, match="refused"):
            _check_in(device)


def _renewals(fleet: SecuredFleet, device: str) -> list[tuple[str, str]]:
    """Who renewed a device's certificate by what, as the audit log has it."""
    with fleet.operator() as operator:
        entries = [one for one in operator.audit.entries() if one.action == "device.renew"]
    return [(one.actor, one.via) for one in entries if one.object == device]


def test_renewing(fleet: SecuredFleet) -> None:
    """A certificate is renewed over the connection it opens; one that opens none any more by its
    key; one for another name, or expired beyond the grace, never."""
    token = fleet.token()
    identity = fleet.enrolled("gate-11", token=token)
    renewed = renew(identity)
    assert identity_of(token, identity.key, renewed).facts.serial != identity.facts.serial
    assert identity_of(token, identity.key, renewed).facts.key == identity.facts.key
    assert _renewals(fleet, "gate-11") == []  # nearly the same as the one before
    nine_months = fleet.forged("gate-12", now_s=time.time() - 270 * DAY_S, life_s=30 * DAY_S)
    back = identity_of(token, nine_months.key, renew_expired(nine_months))
    _check_in(fleet.device(back))
    renew(fleet.forged("gate-15"))
    assert _renewals(fleet, "gate-15") == [("gate-15", "certificate")]
    assert _renewals(fleet, "gate-12") == [("gate-12", "expired certificate")]
    with pytest.raises(RefusedError, match="days ago"):
        renew_expired(fleet.forged("gate-13", now_s=time.time() - 400 * DAY_S, life_s=DAY_S))
    with pytest.raises(TrustError, match="not made here"):
        stranger = fleet.forged("gate-14")
        made = _by(make_authority(), stranger.key)
        renew_expired(replace(stranger, certificate=made))


def test_connections_age(tmp_path: Path) -> None:
    """A connection is made anew after its age, and no call fails for it."""
    with secured_fleet(tmp_path, connection_age_s=1.0) as fleet:
        device = fleet.device(fleet.enrolled("gate-1"))
        began_s = time.monotonic()
        calls = 0
        while time.monotonic() - began_s < 2.5:
            _check_in(device)
            calls += 1
            time.sleep(0.02)
        assert calls > 20


def test_a_new_authority_takes_over(tmp_path: Path) -> None:
    """During a rollover devices of both authorities come in, without a restart; who was off
    all the time and knows the retired one alone finds the way back by itself."""
    with secured_fleet(tmp_path) as fleet:
        device, sleeper = fleet.enrolled("gate-1"), fleet.enrolled("gate-2")
        folder = IdentityFolder(fleet.data)
        newer = make_authority()
        folder.add(newer)
        token = fleet.token()
        answer = _check_in(fleet.device(device))
        assert answer.renew_certificate  # another authority signs now
        moved = identity_of(token, device.key, renew(device))
        assert moved.facts.authority == newer.key_identifier != device.facts.authority
        for one in (device, moved, sleeper):
            assert fleet.device(one).check_in() is None
        folder.retire(folder.load().serving.fingerprint[:12])
        assert not _check_in(fleet.device(moved)).renew_certificate
        only_new = replace(moved, authorities=newer.certificate)
        assert fleet.device(only_new).check_in() is None
        with pytest.raises(UnavailableError):  # its authority is no longer believed
            _check_in(fleet.device(sleeper))
        back = identity_of(token, sleeper.key, renew_expired(sleeper))
        assert fleet.device(back).check_in() is None


def test_a_refused_call_says_so_in_grpc_terms(fleet: SecuredFleet) -> None:
    """Other clients see UNAUTHENTICATED, not a broken connection."""
    with fleet.operator() as operator:
        identity = fleet.enrolled("gate-20")
        operator.identities.revoke("gate-20")
    with pytest.raises(grpc.RpcError) as refused:
        fleet.device(identity).stub.CheckIn(delivery.CheckInRequest(), timeout=20)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
