"""Who may call what: one rule for each method of each service of the distributor, one decision.

A method without a rule is refused to everybody; a test goes through every service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from distributor.operators.roles import (
    ADMIN,
    DEPLOYER,
    EVERYWHERE,
    PUBLISHER,
    VIEWER,
    Grant,
)

LASTING = "gives what would outlive a token: it takes a certificate, by edge-fleet login"
Kind = Literal["device", "operator", "anyone"]
# namespace: in that of the model asked about. any: somewhere, and the answer shows only what
# one may see. all: in every namespace, for what has none. own: one's own things, no role.
Scope = Literal["namespace", "any", "all", "own"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may call a method. ``changes``: it changes state, so the audit log has it.

    ``lasting``: what it gives outlives any token of a pipeline, so it takes a certificate.
    ``about_all``: the role that it takes where it is about what belongs to no namespace.
    """

    kinds: frozenset[Kind]
    role: str = ""
    scope: Scope = "own"
    changes: bool = False
    lasting: bool = False
    about_all: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``role``: by which it is allowed, as a grant; ``why``: it is not."""

    allowed: bool
    role: str = ""
    why: str = ""


def _operators(
    role: str,
    scope: Scope,
    *,
    changes: bool = False,
    lasting: bool = False,
    about_all: str = "",
) -> Rule:
    return Rule(
        kinds=frozenset({"operator"}),
        role=role,
        scope=scope,
        changes=changes,
        lasting=lasting,
        about_all=about_all,
    )


_DEVICES = Rule(kinds=frozenset({"device"}))
_BOTH = Rule(kinds=frozenset({"device", "operator"}))
# They prove themselves by a token or a certificate within the call.
_ANYONE = Rule(kinds=frozenset({"anyone"}))
_OWN = _operators("", "own")

RULES: Mapping[str, Rule] = {
    "edge.delivery.v1.DeliveryService/CheckIn": _DEVICES,
    "edge.delivery.v1.DeliveryService/Watch": _DEVICES,
    "edge.delivery.v1.DeliveryService/Plan": _DEVICES,
    "edge.delivery.v1.DeliveryService/Fetch": _DEVICES,
    "edge.delivery.v1.DeliveryService/Report": _DEVICES,
    "edge.fleet.v1.FleetService/MissingFiles": _operators(PUBLISHER, "any"),
    "edge.fleet.v1.FleetService/Publish": _operators(PUBLISHER, "namespace", changes=True),
    "edge.fleet.v1.FleetService/EvidencePolicy": _operators(PUBLISHER, "namespace"),
    "edge.fleet.v1.FleetService/ListModels": _operators(VIEWER, "any"),
    "edge.fleet.v1.FleetService/ListStorage": _operators(VIEWER, "any"),
    "edge.fleet.v1.FleetService/ListDevices": _operators(VIEWER, "any"),
    # Labels choose the cohorts of every namespace.
    "edge.fleet.v1.FleetService/LabelDevice": _operators(DEPLOYER, "all", changes=True),
    "edge.fleet.v1.FleetService/ExplainDevice": _operators(VIEWER, "any"),
    # Builds deltas, which takes the distributor's processors and disk.
    "edge.fleet.v1.FleetService/PlanRollout": _operators(DEPLOYER, "namespace"),
    "edge.fleet.v1.FleetService/CreateRollout": _operators(DEPLOYER, "namespace", changes=True),
    "edge.fleet.v1.FleetService/GetRollout": _operators(VIEWER, "namespace"),
    "edge.fleet.v1.FleetService/ListRollouts": _operators(VIEWER, "any"),
    "edge.fleet.v1.FleetService/WatchRollout": _operators(VIEWER, "namespace"),
    "edge.fleet.v1.FleetService/AbortRollout": _operators(DEPLOYER, "namespace", changes=True),
    "edge.fleet.v1.FleetService/UndoRollout": _operators(DEPLOYER, "namespace", changes=True),
    "edge.metadata.v1.MetadataService/Get": _BOTH,
    # Documents of one namespace by its publishers, all others (a fresh fleet's first root!) by
    # an admin of everything.
    "edge.metadata.v1.MetadataService/Put": _operators(
        PUBLISHER, "namespace", changes=True, about_all=ADMIN
    ),
    "edge.metadata.v1.MetadataService/OnlineKeys": _operators(VIEWER, "any"),
    "edge.identity.v1.EnrolmentService/Trust": _ANYONE,
    "edge.identity.v1.EnrolmentService/Enrol": _ANYONE,
    "edge.identity.v1.EnrolmentService/RenewExpired": _ANYONE,
    "edge.identity.v1.RenewalService/Renew": _BOTH,
    "edge.identity.v1.IdentityService/CreateToken": _operators(ADMIN, "all", changes=True),
    "edge.identity.v1.IdentityService/ListTokens": _operators(ADMIN, "all"),
    "edge.identity.v1.IdentityService/RevokeToken": _operators(ADMIN, "all", changes=True),
    "edge.identity.v1.IdentityService/ListIdentities": _operators(VIEWER, "all"),
    "edge.identity.v1.IdentityService/Approve": _operators(ADMIN, "all", changes=True),
    "edge.identity.v1.IdentityService/Revoke": _operators(ADMIN, "all", changes=True),
    "edge.operators.v1.OperatorService/WhoAmI": _OWN,
    "edge.operators.v1.OperatorService/ListOperators": _operators(VIEWER, "all"),
    "edge.operators.v1.OperatorService/AddOperator": _operators(
        ADMIN, "all", changes=True, lasting=True
    ),
    "edge.operators.v1.OperatorService/SetRoles": _operators(
        ADMIN, "all", changes=True, lasting=True
    ),
    "edge.operators.v1.OperatorService/RemoveOperator": _operators(ADMIN, "all", changes=True),
    # For oneself; for others an admin of everything.
    "edge.operators.v1.OperatorService/MintToken": Rule(
        kinds=frozenset({"operator"}), scope="own", changes=True, lasting=True
    ),
    "edge.operators.v1.ContentService/FetchFile": _operators(VIEWER, "namespace"),
    "edge.operators.v1.ContentService/FetchEvidence": _operators(VIEWER, "namespace"),
    # The log speaks of every namespace.
    "edge.operators.v1.AuditService/ListEntries": _operators(VIEWER, "all"),
    "edge.operators.v1.AuditService/SignedHead": _OWN,
}


def decide(
    method: str,
    *,
    kind: str,
    grants: Iterable[Grant],
    namespace: str | None = None,
    by_token: bool = False,
) -> Decision:
    """Whether a caller may call ``method`` (``package.Service/Method``).

    kind: what the caller's certificate says. by_token: a pipeline's, in place of one.
    namespace: of the model that it is about; none: not known yet, so a role in any namespace
    is enough to look at the request.
    """
    rule = RULES.get(method)
    if rule is None:
        return Decision(allowed=False, why=f"nobody may call {method}: no rule speaks of it")
    if "anyone" in rule.kinds:
        return Decision(allowed=True)
    if kind not in rule.kinds:
        who = " and ".join(f"{one}s" for one in sorted(rule.kinds))
        return Decision(allowed=False, why=f"{_short(method)} is for {who}, not for a {kind}")
    if rule.lasting and by_token:
        return Decision(allowed=False, why=f"{_short(method)} {LASTING}")
    if rule.scope == "own" or not rule.role:
        return Decision(allowed=True)
    return _by_role(method, rule, grants, EVERYWHERE if rule.scope == "all" else namespace)


def _by_role(method: str, rule: Rule, grants: Iterable[Grant], namespace: str | None) -> Decision:
    held = sorted(grants)
    role = rule.about_all if rule.about_all and namespace == EVERYWHERE else rule.role
    for one in held:
        if one.gives(role, namespace):
            return Decision(allowed=True, role=str(one))
    where = "in every namespace" if namespace == EVERYWHERE else f"in namespace {namespace}"
    where = "in some namespace" if namespace is None else where
    has = ", ".join(str(one) for one in held) or "no role"
    return Decision(
        allowed=False, why=f"{_short(method)} needs the role {role} {where}; you have {has}"
    )


def _short(method: str) -> str:
    return method.rpartition(".")[2].replace("/", ".")
