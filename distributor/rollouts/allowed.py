"""What signed metadata allow to be rolled out: the distributor's side of what devices enforce."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from distributor.rollouts.model import RolloutDevice
from distributor.signing import check_floor, check_signed
from edge_sdk.base import Digest, ModelName, Version

Coming = tuple[Digest, str, str]  # artifact, version, variant


def check_allowed(connection: Connection, model: ModelName, coming: Iterable[Coming]) -> None:
    """Refuses what every device would refuse.

    Raises: RefusedError (it is no target of the signed metadata, or below the signed floor).
    """
    once = set(coming)
    check_signed(
        connection,
        {artifact: f"{model} {version} {variant}" for artifact, version, variant in once},
    )
    for version in sorted({Version.parse(version) for _, version, _ in once}):
        check_floor(connection, model, version)


def coming_with(rows: Iterable[RolloutDevice]) -> set[Coming]:
    """What the rows of a rollout bring; one that takes a model away brings nothing."""
    return {(row.artifact, row.version, row.variant) for row in rows if row.artifact is not None}
