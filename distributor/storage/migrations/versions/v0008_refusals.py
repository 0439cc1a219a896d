"""What a device refused last, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("devices", sa.Column("refusal", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("devices", "refusal")
