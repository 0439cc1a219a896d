"""One table says who may call what; what it does not name, nobody may."""

from __future__ import annotations

import pytest

from device_agent.access import ALLOWED, LOCAL_LIMITS, ROLES, may_call
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.doors.open_inference import SERVICE, InferenceDoor
from device_agent.serving.model_table import ModelTable
from edge_sdk.protos import agent_v1_pb2

AGENT = "/edge.agent.v1.AgentService/"
INFERENCE = f"/{SERVICE}/"


def methods() -> set[str]:
    """Every method of the two services of an agent."""
    service = agent_v1_pb2.DESCRIPTOR.services_by_name["AgentService"]
    table = ModelTable()
    door = InferenceDoor(table, Dispatcher(table, running_max=1), shared_memory_prefix="app-")
    found = {AGENT + one.name for one in service.methods}
    return found | {INFERENCE + name for name in door.method_names()}


def test_every_method_has_a_rule() -> None:
    """A method that is added without saying who may call it is found here, and refused there."""
    missing = methods() - set(ALLOWED)
    assert not missing, f"say in device_agent/access/roles.py who may call {sorted(missing)}"
    assert set(ALLOWED) <= methods()
    assert set(LOCAL_LIMITS) == methods()


def test_a_method_without_a_rule_is_nobodys() -> None:
    """Whatever the role."""
    assert not may_call(ROLES, AGENT + "New")
    assert not may_call(ROLES, "/somebody.Else/Status")


def test_nobody_may_nothing() -> None:
    """Without a role no method can be called."""
    assert not any(may_call((), method) for method in ALLOWED)


@pytest.mark.parametrize(
    ("method", "who"),
    [
        (AGENT + "Status", {"infer", "observe", "control"}),
        (AGENT + "Statistics", {"observe", "control"}),
        (AGENT + "Hold", {"infer", "control"}),
        (AGENT + "UpdateNow", {"control"}),
        (AGENT + "Rollback", {"control"}),
        (INFERENCE + "ModelInfer", {"infer"}),
        (INFERENCE + "ModelStreamInfer", {"infer"}),
        (INFERENCE + "SystemSharedMemoryRegister", {"infer"}),
        (INFERENCE + "ServerReady", {"infer", "observe", "control"}),
    ],
)
def test_what_each_role_is_for(method: str, who: set[str]) -> None:
    """Apps ask models, watchers look on, technicians decide; none does the others' work."""
    assert {role for role in ROLES if may_call([role], method)} == who


def test_control_may_all_of_the_agent() -> None:
    """Who decides may also look on: the owner's socket is the one for control."""
    assert all(may_call(["control"], one) for one in ALLOWED if one.startswith(AGENT))
    assert all(may_call(["infer"], one) for one in ALLOWED if one.startswith(INFERENCE))
