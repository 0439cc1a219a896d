"""What artifacts were published with: signatures of models, provenance of builds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evidence",
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("signer", sa.Text(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(length=63), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.artifact"], name=op.f("fk_evidence_artifact_artifacts")
        ),
        sa.PrimaryKeyConstraint("artifact", "digest", name=op.f("pk_evidence")),
    )


def downgrade() -> None:
    op.drop_table("evidence")
