"""A rollout brings several models that switch together: its rows say which model they are about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0003"
branch_labels = None
depends_on = None

_KEY = "pk_rollout_devices"


def upgrade() -> None:
    op.create_table(
        "rollout_together",
        sa.Column("rollout", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=127), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout"], ["rollouts.rollout"], name=op.f("fk_rollout_together_rollout_rollouts")
        ),
        sa.PrimaryKeyConstraint("rollout", "model", name=op.f("pk_rollout_together")),
    )
    op.create_index(op.f("ix_rollout_together_model"), "rollout_together", ["model"], unique=False)
    with op.batch_alter_table("rollout_devices") as batch:
        batch.add_column(sa.Column("model", sa.String(length=127), nullable=True))
    op.execute(
        "UPDATE rollout_devices SET model = (SELECT rollouts.model FROM rollouts "
        "WHERE rollouts.rollout = rollout_devices.rollout)"
    )
    with op.batch_alter_table("rollout_devices") as batch:
        batch.drop_constraint(_KEY, type_="primary")
        batch.alter_column("model", existing_type=sa.String(length=127), nullable=False)
        batch.create_primary_key(_KEY, ["rollout", "device", "model"])


def downgrade() -> None:
    # What the release before cannot say: only the first model of each rollout is left.
    op.execute(
        "DELETE FROM rollout_devices WHERE model <> (SELECT rollouts.model FROM rollouts "
        "WHERE rollouts.rollout = rollout_devices.rollout)"
    )
    with op.batch_alter_table("rollout_devices") as batch:
        batch.drop_constraint(_KEY, type_="primary")
        batch.create_primary_key(_KEY, ["rollout", "device"])
        batch.drop_column("model")
    op.drop_index(op.f("ix_rollout_together_model"), table_name="rollout_together")
    op.drop_table("rollout_together")
