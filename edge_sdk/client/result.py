"""What goes with a request beside its tensors, and what comes back: the same by either way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edge_sdk.base import UsageError
from edge_sdk.client.errors import VersionNotActiveError

INFER_DEADLINE_S = 30.0
PRIORITY_MAX = 3
_NUMBER_MAX = 2**63 - 1


# Not frozen: that would cost each request more than laying its inputs into shared memory.
@dataclass(slots=True)
class Result:
    """Outputs by name, and the version that computed every one of them."""

    outputs: Mapping[str, NDArray[Any]]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceStep:
    """One request of a sequence whose state the agent keeps. ``id``: a number above 0, or text.

    ``start``: with a new state; ``end``: the state is let go after this request.
    """

    id: int | str
    start: bool = False
    end: bool = False

    def __post_init__(self) -> None:
        """Raises: UsageError."""
        if not self.id if isinstance(self.id, str) else not 0 < self.id <= _NUMBER_MAX:
            raise UsageError(f"a sequence's id is a number above 0, or text, not {self.id!r}")


def is_named_by_text(sequence: SequenceStep | None) -> bool:
    """Such a sequence is gRPC's alone."""
    return sequence is not None and isinstance(sequence.id, str)


def check_priority(priority: int) -> None:
    """Raises: UsageError."""
    if not 0 <= priority <= PRIORITY_MAX:
        raise UsageError(f"priority {priority} is none of 0 to {PRIORITY_MAX}")


def check_version(active: str, version: str | None) -> None:
    """Raises: VersionNotActiveError."""
    if version and active != version:
        raise VersionNotActiveError(
            f"version {version} was demanded and {active} answered", version=version, active=active
        )
