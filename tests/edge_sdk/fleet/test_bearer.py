"""Operators known by certificates, and pipelines by short-lived tokens, over real TLS."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_sdk.base import (
    ConflictError,
    EdgeError,
    ForbiddenError,
    FormatError,
    RefusedError,
    ResourceError,
    TrustError,
    UnavailableError,
)
from edge_sdk.fleet import Draft, Fleet, OwnIdentity, Patience, begin
from edge_sdk.fleet.bearer import Bearer
from edge_sdk.fleet.cli import main
from edge_sdk.fleet.home import FleetHome
from edge_sdk.identity import EnrolmentToken, Identity, Issued, enrol, first_contact, make_key
from edge_sdk.protos.delivery_v1_pb2_grpc import DeliveryServiceStub
from edge_sdk.rpc import Backoff, Credentials, Tls, open_channel
from tests.support.commands import run_main
from tests.support.signed_fleet import key_folder

if TYPE_CHECKING:
    from tests.support.fleet_server import FleetServer

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the distributor needs 3.11")

ONCE = Patience(deadline_s=10, attempts=1, backoff=Backoff(base_s=0.001, cap_s=0.01))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FleetServer]:
    """As in production: certificates, and a listener for pipelines."""
    from tests.support.fleet_server import fleet_server

    monkeypatch.delenv("EDGE_TEST_PLAINTEXT")
    addresses = {"enrolment_address": "127.0.0.1:0", "token_address": "127.0.0.1:0"}
    with fleet_server(tmp_path / "data", **addresses) as one:
        yield one


@pytest.fixture
def root(server: FleetServer, tmp_path: Path) -> Identity:
    """The first operator, who is admin."""
    text = Path(server.serving.operator_token).read_text()
    return OwnIdentity(tmp_path / "root").log_in(EnrolmentToken.decode(text), "root")


def bearer_of(fleet: Fleet, root: Identity, **asked: object) -> Bearer:
    made = fleet.operators.token(**asked)  # type: ignore[arg-type]
    return Bearer(
        address=made.address,
        authorities=root.authorities.decode(),
        secret=made.secret,
        expires_ms=made.expires_ms,
    )


def refusal(bearer: Bearer, error: type[EdgeError]) -> str:
    """What is said to a pipeline that must not come in."""
    pipeline = Fleet(bearer.address, bearer=bearer, patience=ONCE)
    with pipeline, pytest.raises(error) as refused:
        pipeline.models()
    return refused.value.message


def test_the_first_operator_is_admin(root: Identity) -> None:
    """By the token of the distributor's own machine; the log says so, and who enrolled."""
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        me = fleet.operators.who_am_i()
        assert (me.operator, me.roles, me.via) == ("root", ("admin",), "certificate")
        entries = list(fleet.audit.entries())
        said = [(one.kind, one.actor, one.action) for one in entries]
        (made,) = (one for one in entries if one.action == "operator.token")
        (used,) = (one for one in entries if one.action == "operator.enrol")
    assert (made.kind, made.actor) == ("host", "edge-distributor")
    assert used.facts["how"] == f"token {made.object}"
    assert ("operator", "root", "operator.enrol") in said
    assert ("host", "edge-distributor", "operator.add") in said


@pytest.mark.parametrize("torn", ["enrolment.json", "key.pem", "ca.pem", "certificate.pem"])
def test_a_login_that_was_cut_short_is_repeated(
    server: FleetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    """A full disk at any file, and the same token still brings the same key in: the token of
    the first operator is the only one there is."""
    token = EnrolmentToken.decode(Path(server.serving.operator_token).read_text())
    own = OwnIdentity(tmp_path / "root")
    write = OwnIdentity._write

    def full(self: OwnIdentity, name: str, data: bytes) -> None:
        if name == torn:
            raise ResourceError("the disk is full")
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(OwnIdentity, "_write", full)
        with pytest.raises(ResourceError):
            own.log_in(token, "root")
    root = own.log_in(token, "root")
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        assert fleet.operators.who_am_i().roles == ("admin",)
    assert not list(own.folder.glob("*.key.pem"))


def test_a_second_operator_has_the_roles_given(root: Identity, tmp_path: Path) -> None:
    """With a certificate alone one may nothing; with roles, what they allow; removed, nothing,
    also after somebody else was given the name."""
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        text, _ = fleet.identities.create_token(kind="operator", name="ada")
        ada = OwnIdentity(tmp_path / "ada").log_in(EnrolmentToken.decode(text), "ada")
        with Fleet(ada.address, identity=ada, patience=ONCE) as hers:
            with pytest.raises(TrustError, match="no operator here"):
                hers.models()
            fleet.operators.add("ada", ["publisher@team"])
            assert hers.models() == ()
            with pytest.raises(ForbiddenError):
                hers.rollout_abort("r1")
            fleet.operators.remove("ada")
            with pytest.raises(TrustError):
                hers.models()
            fleet.operators.add("ada", ["admin"])
            with pytest.raises(TrustError):
                hers.models()


def test_a_pipeline_publishes_by_token(root: Identity, tmp_path: Path) -> None:
    """It does what the token allows, as its operator, and the log says by which token."""
    (tmp_path / "m.bin").write_bytes(b"weights")
    draft = Draft(model="team/digits", version="1.0.0", variant="fp32", serve="none")
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        bearer = bearer_of(fleet, root, roles=["publisher@team"], purpose="ci")
        with Fleet(bearer.address, bearer=bearer, patience=ONCE) as pipeline:
            assert pipeline.operators.who_am_i().roles == ("publisher@team",)
            pipeline.publish(tmp_path / "m.bin", draft)
            with pytest.raises(ForbiddenError, match="you have publisher@team"):
                pipeline.rollout_abort("r1")
            with pytest.raises(ForbiddenError, match="MintToken gives what would outlive a token"):
                pipeline.operators.token()
        *_, last = fleet.audit.entries()
    assert (last.actor, last.action, last.role) == ("root", "artifact.publish", "publisher@team")
    assert last.via.startswith("token ")


def test_a_token_opens_only_its_own_door(server: FleetServer, root: Identity) -> None:
    """Without a token, or with a wrong one, the pipelines' listener refuses; with a token but
    no certificate the operators' listener does not even answer."""
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        good = bearer_of(fleet, root)
    for secret in ("edgeop1.wrong", "x"):
        bad = msgspec.structs.replace(good, secret=secret)
        assert "unknown or its time is over" in refusal(bad, TrustError)
    nobody = Fleet(good.address, identity=root, patience=ONCE)
    with nobody, pytest.raises(TrustError, match="need a token"):
        nobody.models()
    refusal(msgspec.structs.replace(good, address=root.address), UnavailableError)


@pytest.fixture
def watched(server: FleetServer, root: Identity, tmp_path: Path) -> str:
    """A rollout that waits for a device, which stays away."""
    (tmp_path / "m.bin").write_bytes(b"weights")
    draft = Draft(model="team/digits", version="1.0.0", variant="fp32", serve="none")
    keys = key_folder(tmp_path / "keys")
    with Fleet(root.address, identity=root, keys=keys, patience=ONCE) as fleet:
        begin(fleet.metadata, keys, ("team",))
        fleet.publish(tmp_path / "m.bin", draft)
        text, _ = fleet.identities.create_token(name="cam-1")
        _check_in(EnrolmentToken.decode(text))
        return fleet.rollout_create("team/digits", "1.0.0").rollout


def _check_in(token: EnrolmentToken) -> None:
    from tests.support.fleet_server import ScriptedDevice

    key = make_key()
    issued = enrol(token, first_contact(token), key, "cam-1")
    assert isinstance(issued, Issued)
    tls = Tls(roots=issued.authorities, key=key, certificate=issued.certificate)
    with open_channel(token.address, Credentials(tls=tls)) as channel:
        ScriptedDevice(name="cam-1", stub=DeliveryServiceStub(channel)).check_in()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("time", "expired"),
        ("removed", "removed"),
        ("roles", "roles of this operator"),
        ("revoked", "refused: stolen"),
    ],
)
def test_a_watch_ends_with_what_allowed_it(
    root: Identity, watched: str, tmp_path: Path, how: str, why: str
) -> None:
    """A stream outlives neither its token nor the operator behind it, nor the role it needs;
    a token made with a key that was revoked is worth nothing."""
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        text, _ = fleet.identities.create_token(kind="operator", name="ada")
        ada = OwnIdentity(tmp_path / "ada").log_in(EnrolmentToken.decode(text), "ada")
        fleet.operators.add("ada", ["viewer@team", "viewer@other"])
        life_s = 2.0 if how == "time" else 900.0
        with Fleet(ada.address, identity=ada, patience=ONCE) as hers:
            bearer = bearer_of(hers, ada, life_s=life_s)
        with Fleet(bearer.address, bearer=bearer, patience=ONCE) as pipeline:
            stream = pipeline.rollout_watch(watched, timeout_s=20)
            assert next(stream).rollout == watched
            if how == "removed":
                fleet.operators.remove("ada")
            elif how == "roles":
                fleet.operators.set_roles("ada", ["viewer@other"])
            elif how == "revoked":
                fleet.identities.revoke("ada", kind="operator", reason="stolen")
            with pytest.raises(TrustError, match=why):
                list(stream)
    if how != "roles":
        refusal(bearer, TrustError)


def test_an_admins_token_makes_nobody_who_stays(root: Identity) -> None:
    """Whoever gets hold of it for minutes lets in no operator, gives nobody roles, says not
    whom a fresh fleet believes, makes no devices' tokens for years, and leaves an admin."""
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        bearer = bearer_of(fleet, root)
        fleet.operators.add("eve", ["viewer"])
    with Fleet(bearer.address, bearer=bearer, patience=ONCE) as pipeline:
        attempts: list[Callable[[], object]] = [
            lambda: pipeline.identities.create_token(kind="operator", name="mallory"),
            lambda: pipeline.identities.create_token(name="cam-9", valid_s=86_401.0),
            lambda: pipeline.identities.approve("mallory", kind="operator"),
            lambda: pipeline.operators.add("mallory", ["admin"]),
            lambda: pipeline.operators.set_roles("eve", ["admin"]),
            lambda: pipeline.metadata.put([("1.root.json", b"{}")]),
        ]
        for attempt in attempts:
            with pytest.raises(ForbiddenError, match="would outlive a token"):
                attempt()
        assert pipeline.identities.create_token(name="cam-9")[1].name == "cam-9"
        for attempt in (
            lambda: pipeline.identities.revoke("root", kind="operator"),
            lambda: pipeline.operators.remove("root"),
        ):
            with pytest.raises(RefusedError, match="admin"):
                attempt()


def test_a_token_goes_to_nobody_else(root: Identity) -> None:
    """A listener that the file's authorities do not vouch for is not told the secret."""
    with Fleet(root.address, identity=root, patience=ONCE) as fleet:
        good = bearer_of(fleet, root)
    stranger = msgspec.structs.replace(good, authorities=_authority())
    refusal(stranger, UnavailableError)


def _authority() -> str:
    """The certificate of somebody else."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another fleet")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc))
        .not_valid_after(dt.datetime(2090, 1, 1, tzinfo=dt.timezone.utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


def test_the_file_is_all_that_a_pipeline_needs(
    root: Identity,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Written for its owner alone; with its name in EDGE_FLEET_BEARER_FILE commands work."""
    home = FleetHome(root=tmp_path / "home")
    monkeypatch.setenv("EDGE_FLEET_HOME", str(home.root))
    monkeypatch.setenv("EDGE_FLEET_IDENTITY", str(tmp_path / "root"))
    file = tmp_path / "ci.token"
    made = ["operators", "token", "--role", "viewer", "--output", str(file)]
    ran = run_main(main, made, capsys, monkeypatch)
    assert ran.code == 0, ran.err
    assert Bearer.load(file).secret not in ran.out + ran.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("EDGE_FLEET_IDENTITY", str(tmp_path / "nobody"))
    monkeypatch.setenv("EDGE_FLEET_BEARER_FILE", str(file))
    ran = run_main(main, ["operators", "whoami", "--json"], capsys, monkeypatch)
    assert ran.code == 0, ran.err
    assert ran.document["roles"] == ["viewer"]


def test_inviting_an_operator(
    root: Identity,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One command adds them with roles and writes the token to log in with."""
    monkeypatch.setenv("EDGE_FLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EDGE_FLEET_IDENTITY", str(tmp_path / "root"))
    token = tmp_path / "ada.token"
    add = ["operators", "add", "ada", "--role", "viewer", "--token-output", str(token)]
    assert run_main(main, add, capsys, monkeypatch).code == 0
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    monkeypatch.setenv("EDGE_FLEET_IDENTITY", str(tmp_path / "ada"))
    login = ["--operator", "ada", "login", "--token-file", str(token)]
    assert run_main(main, login, capsys, monkeypatch).code == 0
    ran = run_main(main, ["operators", "whoami"], capsys, monkeypatch)
    assert ran.out == "ada (by certificate): viewer\n"


def test_a_token_file_is_kept_whole(tmp_path: Path) -> None:
    """It comes back as it was, is never replaced, and damaged it is refused; its secret does
    not show."""
    bearer = Bearer(address="a:1", authorities="PEM", secret="s3cret", expires_ms=1)
    bearer.save(tmp_path / "one")
    assert Bearer.load(tmp_path / "one") == bearer
    assert "s3cret" not in repr(bearer)
    with pytest.raises(ConflictError):
        bearer.save(tmp_path / "one")
    (tmp_path / "two").write_bytes(b'{"address": 1}')
    with pytest.raises(FormatError, match="no token file"):
        Bearer.load(tmp_path / "two")
