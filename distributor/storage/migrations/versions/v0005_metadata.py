"""Signed metadata, the artifacts that they name, and signed assignments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metadata_documents",
        sa.Column("role", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=20), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("put_ms", sa.BigInteger(), nullable=False),
        sa.Column("put_by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("role", "version", name=op.f("pk_metadata_documents")),
    )
    op.create_table(
        "metadata_roles",
        sa.Column("role", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_metadata_roles")),
    )
    op.create_table(
        "signed_targets",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=128), nullable=False),
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=127), nullable=False),
        sa.Column("floor", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.artifact"], name=op.f("fk_signed_targets_artifact_artifacts")
        ),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_signed_targets")),
    )
    for column in ("role", "artifact", "model"):
        op.create_index(
            op.f(f"ix_signed_targets_{column}"), "signed_targets", [column], unique=False
        )
    op.create_table(
        "sealed_assignments",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=128), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device"], ["devices.device"], name=op.f("fk_sealed_assignments_device_devices")
        ),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_sealed_assignments")),
    )


def downgrade() -> None:
    op.drop_table("sealed_assignments")
    for column in ("model", "artifact", "role"):
        op.drop_index(op.f(f"ix_signed_targets_{column}"), table_name="signed_targets")
    op.drop_table("signed_targets")
    op.drop_table("metadata_roles")
    op.drop_table("metadata_documents")
