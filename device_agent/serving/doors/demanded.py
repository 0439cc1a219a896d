"""What a request demands beyond its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_agent.serving.sequences import Sequence
from edge_sdk.base import EdgeError, UsageError, Version
from edge_sdk.protos import inference_v2_pb2 as pb

PRIORITY_LOWEST = 3
_FINAL = "triton_enable_empty_final_response"
_RESERVED = "triton_"

# The fields of the protocol's parameters that each of ours may come in.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "priority": ("int64_param", "uint64_param"),
    "timeout": ("int64_param",),
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    _FINAL: ("bool_param",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demanded:
    """``priority`` 1 (high) to 3 (low), 0: the model's own. ``timeout_s`` for its turn, None: as
    long as the call lasts. ``sequence`` None: of none, which the id 0 or an empty one says."""

    priority: int = 0
    timeout_s: float | None = None
    sequence: Sequence | None = None


NOTHING = Demanded()


def demanded(request: pb.ModelInferRequest) -> Demanded:
    """Raises: UsageError (a value of the wrong kind, or a reserved name)."""
    parameters = request.parameters
    if not parameters:
        return NOTHING
    found: dict[str, int | str | bool] = {}
    for name in parameters:
        if name in _KINDS:
            found[name] = parameter_value(parameters[name], name, _KINDS[name])
        elif name.startswith(_RESERVED):
            raise UsageError(
                f"request parameter {name!r}: names that begin with {_RESERVED!r} are reserved; "
                f"known is {_FINAL}"
            )
    priority = int(found.get("priority", 0))
    if priority < 0:
        raise UsageError("invalid value for 'priority', expected value >= 0.")
    timeout_us = int(found.get("timeout", 0))
    return Demanded(
        priority=min(priority, PRIORITY_LOWEST),
        # Zero and less are as without: the standard's default.
        timeout_s=timeout_us / 1e6 if timeout_us > 0 else None,
        sequence=_sequence(found),
    )


def _sequence(found: Mapping[str, int | str | bool]) -> Sequence | None:
    one = found.get("sequence_id")
    if not one:
        return None
    start, end = found.get("sequence_start", False), found.get("sequence_end", False)
    return Sequence(id=one, start=bool(start), end=bool(end))


def parameter_value(
    parameter: pb.InferParameter, name: str, kinds: tuple[str, ...], where: str = ""
) -> int | str | bool:
    """Raises: UsageError where it is of none of the ``kinds``."""
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in kinds:
        raise UsageError(
            f"invalid value type for {name!r} parameter{where}, expected {' or '.join(kinds)}."
        )
    value: int | str | bool = getattr(parameter, kind)
    return value


def check_version(version: str) -> None:
    """Raises: UsageError where a demanded version is none, as the standard's servers do."""
    if not version:
        return
    try:
        Version.parse(version)
    except EdgeError as error:
        raise UsageError(error.message) from None
