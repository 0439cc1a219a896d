"""Every method of every service has its rule, and each rule decides as the table says."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import edge_sdk.protos
from distributor.operators import EVERYWHERE, ROLES, RULES, Grant, decide

# Services of other programs: their doors are on the device.
ELSEWHERE = ("edge.agent.", "edge.inference.", "inference.")
# Methods that everybody may call who has a name, or whoever proves himself within the call.
OPEN = {
    "edge.metadata.v1.MetadataService/Get",
    "edge.identity.v1.RenewalService/Renew",
    "edge.operators.v1.OperatorService/WhoAmI",
    "edge.operators.v1.OperatorService/MintToken",  # for others: test_operators.py
    "edge.operators.v1.AuditService/SignedHead",
}


def methods() -> set[str]:
    """``package.Service/Method`` of everything that the generated code knows."""
    found = set()
    for module in pkgutil.iter_modules(edge_sdk.protos.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"edge_sdk.protos.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found |= {f"{service.full_name}/{one.name}" for one in service.methods}
    return {one for one in found if not one.startswith(ELSEWHERE)}


def test_every_method_has_a_rule() -> None:
    """A method that nobody thought about is a failure here, and refused when it is called."""
    assert methods() - set(RULES) == set()


def test_every_rule_has_a_method() -> None:
    """A rule for what does not exist would be taken for a protection."""
    assert set(RULES) - methods() == set()


def test_a_method_without_a_rule_is_refused() -> None:
    """Even to an admin of everything."""
    decision = decide("edge.new.v1.New/Do", kind="operator", grants=[Grant(role="admin")])
    assert (decision.allowed, "no rule" in decision.why) == (False, True)


# method, role, in namespace team, in another, everywhere: who may.
OPERATORS = sorted(
    name for name, rule in RULES.items() if rule.kinds == {"operator"} and name not in OPEN
)


@pytest.mark.parametrize("method", OPERATORS)
@pytest.mark.parametrize("role", ROLES)
def test_roles_by_method_and_namespace(method: str, role: str) -> None:
    """A role allows what its rule names, in its own namespace and nowhere else."""
    rule = RULES[method]
    enough = Grant(role=role).gives(rule.role, "team")

    def allowed(where: str, asked: str | None) -> bool:
        grants = [Grant(role=role, namespace=where)]
        return decide(method, kind="operator", grants=grants, namespace=asked).allowed

    assert allowed(EVERYWHERE, "team") is enough
    assert allowed("team", "team") is (enough and rule.scope != "all")
    assert allowed("other", "team") is False
    assert allowed("team", None) is (enough and rule.scope != "all")
    assert allowed("team", EVERYWHERE) is False
    assert decide(method, kind="operator", grants=[], namespace="team").allowed is False
    assert decide(method, kind="device", grants=[], namespace="team").allowed is False


@pytest.mark.parametrize(
    ("method", "least"),
    [
        ("edge.fleet.v1.FleetService/Publish", "publisher"),
        ("edge.fleet.v1.FleetService/CreateRollout", "deployer"),
        ("edge.fleet.v1.FleetService/AbortRollout", "deployer"),
        ("edge.fleet.v1.FleetService/UndoRollout", "deployer"),
        ("edge.fleet.v1.FleetService/LabelDevice", "deployer"),
        ("edge.fleet.v1.FleetService/ListModels", "viewer"),
        ("edge.operators.v1.OperatorService/AddOperator", "admin"),
        ("edge.operators.v1.AuditService/ListEntries", "viewer"),
        ("edge.identity.v1.IdentityService/Revoke", "admin"),
    ],
)
def test_the_least_role(method: str, least: str) -> None:
    """What the most used methods need, spelt out: whoever changes a rule changes it here too."""
    assert RULES[method].role == least


def test_what_lasts_takes_a_certificate() -> None:
    """An admin's token gives nobody roles and makes no tokens; it does take roles away."""
    for method, rule in RULES.items():
        by_token = decide(method, kind="operator", grants=[Grant(role="admin")], by_token=True)
        if "operator" in rule.kinds:
            assert by_token.allowed is not rule.lasting, method
    lasting = {name.rpartition("/")[2] for name, rule in RULES.items() if rule.lasting}
    assert lasting == {"AddOperator", "SetRoles", "MintToken"}


def test_what_belongs_to_no_namespace_is_put_by_an_admin() -> None:
    """Root and top-level targets decide for every namespace: a publisher of all of them puts
    the documents of each, and not these."""
    method = "edge.metadata.v1.MetadataService/Put"
    for role, about_all in (("publisher", False), ("admin", True)):
        grants = [Grant(role=role)]
        assert decide(method, kind="operator", grants=grants, namespace="team").allowed
        decision = decide(method, kind="operator", grants=grants, namespace=EVERYWHERE)
        assert decision.allowed is about_all
        assert about_all or "needs the role admin in every namespace" in decision.why


def test_devices_have_their_methods_and_no_other() -> None:
    """A device may call what is for devices, whatever grants somebody invents for it."""
    everything = [Grant(role="admin")]
    allowed = {name for name in RULES if decide(name, kind="device", grants=everything).allowed}
    assert {one.split("/")[0] for one in allowed} == {
        "edge.delivery.v1.DeliveryService",
        "edge.metadata.v1.MetadataService",
        "edge.identity.v1.RenewalService",
        "edge.identity.v1.EnrolmentService",
    }
    assert decide("edge.delivery.v1.DeliveryService/Plan", kind="operator", grants=everything).why


def test_a_refusal_says_what_is_needed_and_what_one_has() -> None:
    """The message names method, role and namespace, and the roles that the caller has."""
    grants = [Grant.parse("publisher@team"), Grant.parse("viewer")]
    method = "edge.fleet.v1.FleetService/CreateRollout"
    why = decide(method, kind="operator", grants=grants, namespace="team").why
    assert why == (
        "FleetService.CreateRollout needs the role deployer in namespace team; "
        "you have publisher@team, viewer"
    )


def test_an_allowed_call_names_its_role() -> None:
    """The audit log says by which role something was done."""
    grants = [Grant.parse("viewer"), Grant.parse("deployer@team")]
    method = "edge.fleet.v1.FleetService/CreateRollout"
    decision = decide(method, kind="operator", grants=grants, namespace="team")
    assert decision.role == "deployer@team"
