"""Which role may call which method. Pure; the one table. What it does not name, nobody may."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

Role = Literal["infer", "observe", "control"]

ROLES: tuple[Role, ...] = ("infer", "observe", "control")

_ALL = frozenset(ROLES)
_INFER: frozenset[Role] = frozenset({"infer"})
_OBSERVE: frozenset[Role] = frozenset({"observe", "control"})
_CONTROL: frozenset[Role] = frozenset({"control"})
_FILES: frozenset[Role] = frozenset({"infer", "control"})

_AGENT: Mapping[str, frozenset[Role]] = {
    "Status": _ALL,  # says where inference is
    "ListModels": _ALL,
    "Events": _ALL,
    "Statistics": _OBSERVE,
    "Hold": _FILES,  # the files of a model, for apps that bring their own engine
    "UpdateNow": _CONTROL,
    "Rollback": _CONTROL,
}
_INFERENCE: Mapping[str, frozenset[Role]] = {
    **dict.fromkeys(
        (
            *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"),
            *("ModelConfig", "ModelStatistics", "RepositoryIndex"),
        ),
        _ALL,
    ),
    **dict.fromkeys(
        (
            *("ModelInfer", "ModelStreamInfer"),
            # Neither changes what runs: they answer whether a model is there.
            *("RepositoryModelLoad", "RepositoryModelUnload"),
            *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister"),
            *("SystemSharedMemoryUnregister", "CudaSharedMemoryStatus"),
            *("CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
        ),
        _INFER,
    ),
}

ALLOWED: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        **{f"/edge.agent.v1.AgentService/{name}": roles for name, roles in _AGENT.items()},
        **{f"/inference.GRPCInferenceService/{name}": who for name, who in _INFERENCE.items()},
    }
)


def may_call(roles: Collection[Role], method: str) -> bool:
    """``method`` as it stands in a call, ``/package.Service/Method``."""
    return not ALLOWED.get(method, frozenset()).isdisjoint(roles)
