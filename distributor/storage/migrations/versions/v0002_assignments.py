"""Assignments say from which version they go down, and which models switch together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None

_DEVICES = sa.table(
    "devices", sa.column("device", sa.String), sa.column("assignment", sa.LargeBinary)
)


def upgrade() -> None:
    _rewrite(_with_new_fields)


def downgrade() -> None:
    _rewrite(_without_them)


def _rewrite(change: Callable[[dict[str, Any]], None]) -> None:
    connection = op.get_bind()
    assigned = sa.select(_DEVICES).where(_DEVICES.c.assignment.is_not(None))
    for device, assignment in connection.execute(assigned).fetchall():
        document = msgspec.json.decode(assignment)
        change(document)
        written = msgspec.json.encode(document, order="sorted")
        where = _DEVICES.c.device == device
        connection.execute(sa.update(_DEVICES).where(where).values(assignment=written))


def _with_new_fields(document: dict[str, Any]) -> None:
    document["groups"] = []
    for model in document["models"]:
        model["downgrade_from"] = None


def _without_them(document: dict[str, Any]) -> None:
    del document["groups"]
    for model in document["models"]:
        del model["downgrade_from"]
