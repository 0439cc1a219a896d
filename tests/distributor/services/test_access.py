"""Every method of the operators' door asks for its role, and every change is one audit entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from distributor.operators import ROLES, RULES, Grant, decide
from distributor.services import Caller, permitted
from distributor.services.access import Rights, enter
from edge_sdk.audit import Entry, decode_entry
from edge_sdk.base import Digest, EdgeError, ForbiddenError, TrustError
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos import identity_v1_pb2 as identity
from edge_sdk.protos import metadata_v1_pb2 as metadata
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.protos.identity_v1_pb2_grpc import IdentityServiceStub, RenewalServiceStub
from edge_sdk.protos.metadata_v1_pb2_grpc import MetadataServiceStub
from edge_sdk.protos.operators_v1_pb2_grpc import (
    AuditServiceStub,
    ContentServiceStub,
    OperatorServiceStub,
)
from edge_sdk.rpc import Credentials, open_channel, typed_errors
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.catalog import open_catalog, stop_pretending
from tests.support.fleet_server import (
    FleetServer,
    publish,
    publish_parts,
    remembering,
    wait_for_rollout,
)
from tests.support.operators import ROOT, add_all, strict_server
from tests.support.signing import Signing

TEAM, OTHER = "team/digits", "other/digits"
PEOPLE: dict[str, Sequence[str]] = {
    "nobody": (),
    **{f"{role}-everywhere": (role,) for role in ROLES},
    **{f"{role}-team": (f"{role}@team",) for role in ROLES},
    **{f"{role}-other": (f"{role}@other",) for role in ROLES},
}
# Methods that are about no single namespace.
ABOUT_NONE = {
    "FleetService/MissingFiles", "FleetService/ListDevices", "MetadataService/OnlineKeys",
}  # fmt: skip
SERVED = (
    *("edge.fleet.v1.", "edge.operators.v1.", "edge.metadata.v1."),
    *("edge.identity.v1.IdentityService", "edge.identity.v1.RenewalService"),
)


class Door:
    """The stubs of one operator's channel."""

    def __init__(self, server: FleetServer, name: str) -> None:
        self.channel = open_channel(server.serving.operator_address, Credentials(operator=name))
        self.fleet = remembering(FleetServiceStub(self.channel), server.config.data)
        self.operators = OperatorServiceStub(self.channel)
        self.audit = AuditServiceStub(self.channel)
        self.contents = ContentServiceStub(self.channel)
        self.identities = IdentityServiceStub(self.channel)
        self.renewal = RenewalServiceStub(self.channel)
        self.metadata = MetadataServiceStub(self.channel)
        self.data = server.config.data

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def entries(self, after: int = 0) -> list[Entry]:
        request = wire.ListEntriesRequest(after=after)
        pages = self.audit.ListEntries(request, timeout=30)
        return [decode_entry(document) for page in pages for document in page.documents]


def artifact(model: str, version: str) -> ArtifactBytes:
    return make_artifact({"m.bin": f"{model} {version}".encode()}, model=model, version=version)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    """With a model in each of two namespaces, and a device that runs both."""
    data = tmp_path_factory.mktemp("access") / "data"
    with strict_server(data) as one:
        add_all(data, PEOPLE)
        device = one.device("cam-1")
        device.check_in()
        with Door(one, ROOT) as root:
            # r1 is over and was followed by r2, so it can neither be aborted nor undone.
            for model, version in ((TEAM, "1.0.0"), (TEAM, "2.0.0"), (OTHER, "1.0.0")):
                publish(root.fleet, artifact(model, version))
                made = root.fleet.CreateRollout(rollout_of(model, version), timeout=30)
                wait_for_rollout(root.fleet, made.rollout, "running", "done")
                device.check_in()
                device.commit(model=model)
            device.check_in()
        yield one


def rollout_of(model: str, version: str = "1.0.0") -> fleet.RolloutRequest:
    return fleet.RolloutRequest(model=model, version=version)


def put_of(*names: str) -> metadata.PutRequest:
    return metadata.PutRequest(files=[metadata.MetadataFile(name=name) for name in names])


def first(stream: Any) -> Any:
    """Takes one message: a watch would not end."""
    try:
        return next(iter(stream), None)
    finally:
        stream.cancel()


# Each method of the door, called about namespace team. What it answers to who may call it is
# not looked at here: most would be refused for another reason, so that nothing changes.
CALLS: dict[str, Callable[[Door], Any]] = {
    "FleetService/MissingFiles": lambda door: door.fleet.MissingFiles(
        fleet.MissingFilesRequest(digests=[b"x" * 32]), timeout=30
    ),
    "FleetService/Publish": lambda door: door.fleet.Publish(
        publish_parts(artifact(TEAM, "9.0.0"), without=[Digest.of(b"nothing")]), timeout=30
    ),
    "FleetService/EvidencePolicy": lambda door: door.fleet.EvidencePolicy(
        fleet.EvidencePolicyRequest(namespace="team"), timeout=30
    ),
    "FleetService/ListModels": lambda door: door.fleet.ListModels(
        fleet.ListModelsRequest(model=TEAM), timeout=30
    ),
    "FleetService/ListStorage": lambda door: door.fleet.ListStorage(
        fleet.ListStorageRequest(model=TEAM), timeout=30
    ),
    "FleetService/ListDevices": lambda door: door.fleet.ListDevices(
        fleet.ListDevicesRequest(), timeout=30
    ),
    "FleetService/LabelDevice": lambda door: door.fleet.LabelDevice(
        fleet.LabelDeviceRequest(device="nobody"), timeout=30
    ),
    "FleetService/ExplainDevice": lambda door: door.fleet.ExplainDevice(
        fleet.ExplainDeviceRequest(device="cam-1", model=TEAM), timeout=30
    ),
    "FleetService/PlanRollout": lambda door: list(
        door.fleet.PlanRollout(rollout_of(TEAM, "8.0.0"), timeout=30)
    ),
    "FleetService/CreateRollout": lambda door: door.fleet.CreateRollout(
        rollout_of(TEAM, "8.0.0"), timeout=30
    ),
    "FleetService/GetRollout": lambda door: door.fleet.GetRollout(
        fleet.GetRolloutRequest(rollout="r1"), timeout=30
    ),
    "FleetService/ListRollouts": lambda door: door.fleet.ListRollouts(
        fleet.ListRolloutsRequest(model=TEAM), timeout=30
    ),
    "FleetService/WatchRollout": lambda door: first(
        door.fleet.WatchRollout(fleet.GetRolloutRequest(rollout="r1"), timeout=30)
    ),
    "FleetService/AbortRollout": lambda door: door.fleet.AbortRollout(
        fleet.AbortRolloutRequest(rollout="r1"), timeout=30
    ),
    "FleetService/UndoRollout": lambda door: door.fleet.UndoRollout(
        fleet.UndoRolloutRequest(rollout="r1"), timeout=30
    ),
    "MetadataService/Get": lambda door: list(
        door.metadata.Get(metadata.GetRequest(name="timestamp.json"), timeout=30)
    ),
    "MetadataService/Put": lambda door: door.metadata.Put(put_of("7.ns_team.json"), timeout=30),
    "MetadataService/OnlineKeys": lambda door: door.metadata.OnlineKeys(
        metadata.OnlineKeysRequest(), timeout=30
    ),
    "RenewalService/Renew": lambda door: door.renewal.Renew(identity.RenewRequest(), timeout=30),
    "IdentityService/CreateToken": lambda door: door.identities.CreateToken(
        identity.CreateTokenRequest(kind="neither"), timeout=30
    ),
    "IdentityService/ListTokens": lambda door: door.identities.ListTokens(
        identity.ListTokensRequest(), timeout=30
    ),
    "IdentityService/RevokeToken": lambda door: door.identities.RevokeToken(
        identity.RevokeTokenRequest(token="missing"), timeout=30
    ),
    "IdentityService/ListIdentities": lambda door: door.identities.ListIdentities(
        identity.ListIdentitiesRequest(), timeout=30
    ),
    "IdentityService/Approve": lambda door: door.identities.Approve(
        identity.ApproveRequest(kind="neither"), timeout=30
    ),
    "IdentityService/Revoke": lambda door: door.identities.Revoke(
        identity.RevokeRequest(kind="neither"), timeout=30
    ),
    "OperatorService/WhoAmI": lambda door: door.operators.WhoAmI(wire.WhoAmIRequest(), timeout=30),
    "OperatorService/ListOperators": lambda door: door.operators.ListOperators(
        wire.ListOperatorsRequest(), timeout=30
    ),
    "OperatorService/AddOperator": lambda door: door.operators.AddOperator(
        wire.AddOperatorRequest(operator=ROOT), timeout=30
    ),
    "OperatorService/SetRoles": lambda door: door.operators.SetRoles(
        wire.SetRolesRequest(operator="missing"), timeout=30
    ),
    "OperatorService/RemoveOperator": lambda door: door.operators.RemoveOperator(
        wire.RemoveOperatorRequest(operator="missing"), timeout=30
    ),
    "OperatorService/MintToken": lambda door: door.operators.MintToken(
        wire.MintTokenRequest(life_s=-1), timeout=30
    ),
    "ContentService/FetchFile": lambda door: list(
        door.contents.FetchFile(
            wire.FetchFileRequest(artifact=artifact(TEAM, "1.0.0").artifact.raw, path="m.bin"),
            timeout=30,
        )
    ),
    "ContentService/FetchEvidence": lambda door: list(
        door.contents.FetchEvidence(
            wire.FetchEvidenceRequest(artifact=artifact(TEAM, "1.0.0").artifact.raw), timeout=30
        )
    ),
    "AuditService/ListEntries": lambda door: list(
        door.audit.ListEntries(wire.ListEntriesRequest(), timeout=30)
    ),
    "AuditService/SignedHead": lambda door: door.audit.SignedHead(
        wire.SignedHeadRequest(), timeout=30
    ),
}


def served() -> dict[str, str]:
    """Full names of the methods of this door by their short ones."""
    names = [one for one in RULES if one.startswith(SERVED)]
    return {one.rpartition(".")[2]: one for one in names}


def outcome(door: Door, call: Callable[[Door], Any]) -> str:
    try:
        with typed_errors("the distributor"):
            call(door)
    except EdgeError as error:
        return error.reason
    return "done"


def test_every_method_of_the_door_is_tried() -> None:
    """A new method of these services without a case here is a failure."""
    assert set(CALLS) == set(served())


@pytest.mark.parametrize("name", PEOPLE)
def test_the_door_asks_for_roles(server: FleetServer, name: str) -> None:
    """For each method the real server refuses exactly those whom the table refuses, and a role
    in one namespace opens nothing of another."""
    grants = [Grant.parse(one) for one in PEOPLE[name]]
    expected, seen = {}, {}
    with Door(server, name) as door:
        for short, call in CALLS.items():
            method = served()[short]
            about = None if short in ABOUT_NONE else "team"
            decision = decide(method, kind="operator", grants=grants, namespace=about)
            expected[short] = not decision.allowed
            seen[short] = outcome(door, call) == "ForbiddenError"
    assert seen == expected


def test_a_refusals_words_are_for_who_sees_every_namespace(server: FleetServer) -> None:
    """They may name models of any; that the device refused, and which check, everybody sees."""
    device = server.device("cam-1")
    said = {"number": 10_000, "state": "refused", "reason": "TrustError", "message": "other/x"}
    device.send(delivery.Event(facts={"check": "floor"}, **said))  # type: ignore[arg-type]
    for name, message in (("viewer-team", ""), ("viewer-everywhere", "other/x")):
        with Door(server, name) as door:
            (one,) = door.fleet.ListDevices(fleet.ListDevicesRequest(), timeout=30).devices
        shown = one.refusal
        assert (shown.reason, shown.check, shown.message) == ("TrustError", "floor", message)


def test_who_is_no_operator_may_nothing(server: FleetServer) -> None:
    """A name that nobody added, whatever its certificate, is refused at every method."""
    with Door(server, "stranger") as door:
        for call in CALLS.values():
            with pytest.raises(TrustError, match="no operator here"), typed_errors("it"):
                call(door)


def test_a_refusal_is_permission_denied(server: FleetServer) -> None:
    """Over the wire: PERMISSION_DENIED; for people: what is needed, and exit code 6."""
    with Door(server, "viewer-team") as door:
        with pytest.raises(grpc.RpcError) as refused:
            CALLS["FleetService/CreateRollout"](door)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(ForbiddenError, match="the role deployer") as typed, typed_errors("it"):
            CALLS["FleetService/CreateRollout"](door)
        assert typed.value.exit_code == 6


def test_a_publisher_can_ask_first(server: FleetServer) -> None:
    """Whether a model may be published is known without a file of it, for its namespace alone."""
    with Door(server, "publisher-team") as door:
        door.fleet.MissingFiles(fleet.MissingFilesRequest(model=TEAM), timeout=30)
        with pytest.raises(ForbiddenError, match="in namespace"), typed_errors("it"):
            door.fleet.MissingFiles(fleet.MissingFilesRequest(model=OTHER), timeout=30)


def test_lists_show_what_one_may_see(server: FleetServer) -> None:
    """Models, rollouts, devices' models and verdicts of other namespaces do not appear."""
    with Door(server, "viewer-team") as door:
        models = door.fleet.ListModels(fleet.ListModelsRequest(), timeout=30).artifacts
        assert {one.model for one in models} == {TEAM}
        rollouts = door.fleet.ListRollouts(fleet.ListRolloutsRequest(), timeout=30).rollouts
        assert {one.model for one in rollouts} == {TEAM}
        (device,) = door.fleet.ListDevices(fleet.ListDevicesRequest(), timeout=30).devices
        assert {one.model for one in device.models} == {TEAM}
        said = door.fleet.ExplainDevice(fleet.ExplainDeviceRequest(device="cam-1"), timeout=30)
        assert {one.model for one in said.verdicts} == {TEAM}
        with pytest.raises(ForbiddenError, match="in every namespace"), typed_errors("it"):
            door.fleet.ListStorage(fleet.ListStorageRequest(), timeout=30)
    with Door(server, "viewer-everywhere") as door:
        models = door.fleet.ListModels(fleet.ListModelsRequest(), timeout=30).artifacts
        assert {one.model for one in models} == {TEAM, OTHER}


NEW = "the newest rollout"


def newest(door: Door) -> str:
    rollouts = door.fleet.ListRollouts(fleet.ListRolloutsRequest(), timeout=30).rollouts
    return rollouts[0].rollout


NEW_TOKEN = "the newest token"


def newest_token(door: Door) -> str:
    tokens = door.identities.ListTokens(identity.ListTokensRequest(), timeout=30).tokens
    return tokens[0].token


NAMED = {NEW: newest, NEW_TOKEN: newest_token}


def put_first_metadata(door: Door) -> None:
    """What a key ceremony ends with."""
    with open_catalog(door.data) as catalog:
        catalog.write(stop_pretending)
        files = Signing(catalog, door.data).first("team")
    request = metadata.PutRequest(
        files=[metadata.MetadataFile(name=name, data=data) for name, data in files]
    )
    door.metadata.Put(request, timeout=30)


# What changes something, with who does it and what the log then says.
CHANGES: dict[str, tuple[str, Callable[[Door], Any], str, str, str]] = {
    "FleetService/Publish": (
        "publisher-team",
        lambda door: publish(door.fleet, artifact(TEAM, "3.0.0")),
        "artifact.publish",
        f"{TEAM} 3.0.0 fp32",
        "publisher@team",
    ),
    "FleetService/LabelDevice": (
        "deployer-everywhere",
        lambda door: door.fleet.LabelDevice(
            fleet.LabelDeviceRequest(device="cam-1", set={"site": "berlin"}), timeout=30
        ),
        "device.label",
        "cam-1",
        "deployer",
    ),
    "FleetService/CreateRollout": (
        "deployer-team",
        lambda door: door.fleet.CreateRollout(rollout_of(TEAM), timeout=30),
        "rollout.create",
        NEW,
        "deployer@team",
    ),
    "FleetService/AbortRollout": (
        "deployer-team",
        lambda door: door.fleet.AbortRollout(
            fleet.AbortRolloutRequest(rollout=newest(door)), timeout=30
        ),
        "rollout.abort",
        NEW,
        "deployer@team",
    ),
    "FleetService/UndoRollout": (
        "admin-other",
        lambda door: door.fleet.UndoRollout(fleet.UndoRolloutRequest(rollout="r3"), timeout=30),
        "rollout.undo",
        "r3",
        "admin@other",
    ),
    "OperatorService/AddOperator": (
        ROOT,
        lambda door: door.operators.AddOperator(
            wire.AddOperatorRequest(operator="ada", roles=["viewer"]), timeout=30
        ),
        "operator.add",
        "ada",
        "admin",
    ),
    "OperatorService/SetRoles": (
        ROOT,
        lambda door: door.operators.SetRoles(
            wire.SetRolesRequest(operator="ada", roles=["publisher@team"]), timeout=30
        ),
        "operator.roles",
        "ada",
        "admin",
    ),
    "OperatorService/MintToken": (
        "publisher-team",
        lambda door: door.operators.MintToken(wire.MintTokenRequest(life_s=60), timeout=30),
        "token.mint",
        "publisher-team",
        "",
    ),
    "OperatorService/RemoveOperator": (
        ROOT,
        lambda door: door.operators.RemoveOperator(
            wire.RemoveOperatorRequest(operator="ada"), timeout=30
        ),
        "operator.remove",
        "ada",
        "admin",
    ),
    "IdentityService/CreateToken": (
        ROOT,
        lambda door: door.identities.CreateToken(
            identity.CreateTokenRequest(kind="device", name="cam-9"), timeout=30
        ),
        "device.token",
        NEW_TOKEN,
        "admin",
    ),
    "IdentityService/RevokeToken": (
        ROOT,
        lambda door: door.identities.RevokeToken(
            identity.RevokeTokenRequest(token=newest_token(door)), timeout=30
        ),
        "token.revoke",
        NEW_TOKEN,
        "admin",
    ),
    "IdentityService/Approve": (
        ROOT,
        lambda door: door.identities.Approve(
            identity.ApproveRequest(kind="device", name="cam-9"), timeout=30
        ),
        "device.approve",
        "cam-9",
        "admin",
    ),
    "IdentityService/Revoke": (
        ROOT,
        lambda door: door.identities.Revoke(
            identity.RevokeRequest(kind="device", name="cam-9", reason="test"), timeout=30
        ),
        "device.revoke",
        "cam-9",
        "admin",
    ),
    # The last: from here on nothing is rolled out that nobody signed.
    "MetadataService/Put": (
        ROOT,
        put_first_metadata,
        "metadata.put",
        "1.root.json 1.targets.json 1.ns_team.json",
        "admin",
    ),
}


def test_every_change_is_tried() -> None:
    """A new method that changes something without a case here is a failure."""
    assert set(CHANGES) == {short for short, name in served().items() if RULES[name].changes}


def test_every_change_is_one_entry(server: FleetServer) -> None:
    """Who, by which role, what, on which object: one entry for each change, and no more."""
    with Door(server, ROOT) as root:
        for short, (who, call, action, thing, role) in CHANGES.items():
            before = len(root.entries())
            with Door(server, who) as door:
                call(door)
            added = root.entries(after=before)
            assert len(added) == 1, short
            one = added[0]
            found = NAMED[thing](root) if thing in NAMED else thing
            assert (one.action, one.object) == (action, found)
            assert (one.kind, one.actor, one.role) == ("operator", who, role)
            assert one.request, short


def test_what_is_refused_or_changes_nothing_has_no_entry(server: FleetServer) -> None:
    """Refused calls, calls that fail, and a publish of what is there already leave no trace."""
    with Door(server, ROOT) as root, Door(server, "viewer-team") as viewer:
        before = root.entries()
        for call in CALLS.values():
            outcome(viewer, call)
        outcome(root, CALLS["FleetService/LabelDevice"])
        assert publish(root.fleet, artifact(TEAM, "1.0.0")).created is False
        assert root.entries() == before


def test_the_request_is_named_by_its_digest(server: FleetServer) -> None:
    """An entry holds the SHA-256 of the request; of a publish, that of the manifest."""
    request = fleet.LabelDeviceRequest(device="cam-1", set={"a": "1", "b": "2"}, remove=["c"])
    with Door(server, ROOT) as root:
        root.fleet.LabelDevice(request, timeout=30)
        made = artifact(TEAM, "4.0.0")
        publish(root.fleet, made)
        label, published = root.entries()[-2:]
    digest = Digest.of(request.SerializeToString(deterministic=True))
    assert label.request == str(digest)
    assert label.facts == {"+a": "1", "+b": "2", "-c": ""}
    assert published.request == str(made.artifact)


def test_only_an_admin_makes_tokens_for_others(server: FleetServer) -> None:
    """For another operator, and never more than that operator may."""
    request = wire.MintTokenRequest(operator="viewer-team", life_s=60)
    with Door(server, "publisher-everywhere") as door:
        assert outcome(door, lambda one: one.operators.MintToken(request)) == "ForbiddenError"
    with Door(server, ROOT) as root:
        made = root.operators.MintToken(request, timeout=30)
        assert list(made.roles) == ["viewer@team"]
        assert made.secret
        assert not any(made.secret in str(one) for one in root.entries())


def test_a_service_must_say_which_namespace() -> None:
    """One that forgets would let a role in one namespace act in another: a defect, not a permit."""
    somebody = Caller(kind="operator", name="ada")
    grants = (Grant.parse("deployer@team"),)
    method = "edge.fleet.v1.FleetService/AbortRollout"
    enter(Rights(caller=somebody, method=method, grants=grants, via="test"))
    assert permitted("team").role == "deployer@team"
    with pytest.raises(AssertionError, match="which namespace"):
        permitted()
    with pytest.raises(ForbiddenError):
        permitted("other")


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[FleetServer]:
    """With a model in each of two namespaces, and a device that runs neither."""
    people = ("viewer-team", "deployer-team", "deployer-everywhere")
    with strict_server(tmp_path / "data") as one:
        add_all(tmp_path / "data", {name: PEOPLE[name] for name in people})
        one.device("cam-1").check_in()
        with Door(one, ROOT) as root:
            publish(root.fleet, artifact(TEAM, "2.0.0"))
            publish(root.fleet, artifact(OTHER, "1.0.0"))
        yield one


def test_a_group_asks_for_each_of_its_namespaces(fresh_server: FleetServer) -> None:
    """Who may act in one namespace brings nothing together with a model of another, nor sees
    such a rollout; who may in both does, and the log names every model."""
    together = rollout_of(TEAM, "2.0.0")
    together.together.add(model=OTHER, version="1.0.0")
    with (
        Door(fresh_server, "deployer-team") as door,
        pytest.raises(ForbiddenError),
        typed_errors("it"),
    ):
        door.fleet.CreateRollout(together, timeout=30)
    with (
        Door(fresh_server, "deployer-team") as door,
        pytest.raises(ForbiddenError),
        typed_errors("it"),
    ):
        first(door.fleet.PlanRollout(together, timeout=30))
    with Door(fresh_server, "deployer-everywhere") as door:
        made = door.fleet.CreateRollout(together, timeout=30)
        wait_for_rollout(door.fleet, made.rollout, "running", "done")
    with Door(fresh_server, ROOT) as root:
        entry = next(one for one in reversed(root.entries()) if one.object == made.rollout)
    assert entry.facts == {
        "model": TEAM,
        "version": "2.0.0",
        "devices": "1",
        f"with {OTHER}": "1.0.0",
    }
    with Door(fresh_server, "viewer-team") as door:
        shown = door.fleet.ListRollouts(fleet.ListRolloutsRequest(), timeout=30).rollouts
        assert made.rollout not in {one.rollout for one in shown}
        with pytest.raises(ForbiddenError), typed_errors("it"):
            door.fleet.GetRollout(fleet.GetRolloutRequest(rollout=made.rollout), timeout=30)
