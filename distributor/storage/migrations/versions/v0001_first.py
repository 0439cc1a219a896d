"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_catalog()
    _create_devices()
    _create_rollouts()


def _create_catalog() -> None:
    op.create_table(
        "artifacts",
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=127), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.Column("format", sa.String(length=63), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("published_ms", sa.BigInteger(), nullable=False),
        sa.Column("published_by", sa.String(length=63), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("artifact", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("model", "version", "variant", name=op.f("uq_artifacts_model")),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("damaged", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "artifact_files",
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.artifact"], name=op.f("fk_artifact_files_artifact_artifacts")
        ),
        sa.ForeignKeyConstraint(
            ["digest"], ["blobs.digest"], name=op.f("fk_artifact_files_digest_blobs")
        ),
        sa.PrimaryKeyConstraint("artifact", "path", name=op.f("pk_artifact_files")),
    )
    op.create_index(op.f("ix_artifact_files_digest"), "artifact_files", ["digest"], unique=False)
    op.create_table(
        "deltas",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("capability", sa.String(length=512), nullable=False),
        sa.Column("delta", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("decoder_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("methods", sa.JSON(), nullable=False),
        sa.Column("built_ms", sa.BigInteger(), nullable=False),
        sa.Column("build_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["delta"], ["blobs.digest"], name=op.f("fk_deltas_delta_blobs")),
        sa.ForeignKeyConstraint(
            ["target"], ["artifacts.artifact"], name=op.f("fk_deltas_target_artifacts")
        ),
        sa.PrimaryKeyConstraint("source", "target", "capability", name=op.f("pk_deltas")),
    )
    op.create_index("ix_deltas_target", "deltas", ["target"], unique=False)


def _create_devices() -> None:
    op.create_table(
        "devices",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("declared_labels", sa.JSON(), nullable=False),
        sa.Column("operator_labels", sa.JSON(), nullable=False),
        sa.Column("capabilities", sa.JSON(), nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("disk_free_bytes", sa.BigInteger(), nullable=True),
        sa.Column("agent_version", sa.String(length=64), nullable=False),
        sa.Column("accepted_counter", sa.BigInteger(), nullable=False),
        sa.Column("assigned_counter", sa.BigInteger(), nullable=False),
        sa.Column("assignment", sa.LargeBinary(), nullable=True),
        sa.Column("acknowledged_event", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_devices")),
    )
    op.create_table(
        "device_artifacts",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["device"], ["devices.device"], name=op.f("fk_device_artifacts_device_devices")
        ),
        sa.PrimaryKeyConstraint("device", "artifact", name=op.f("pk_device_artifacts")),
    )
    op.create_table(
        "device_models",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=127), nullable=False),
        sa.Column("active_artifact", sa.String(length=64), nullable=True),
        sa.Column("active_version", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("candidate_artifact", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device"], ["devices.device"], name=op.f("fk_device_models_device_devices")
        ),
        sa.PrimaryKeyConstraint("device", "model", name=op.f("pk_device_models")),
    )
    op.create_table(
        "events",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=127), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("rollout", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device"], ["devices.device"], name=op.f("fk_events_device_devices")
        ),
        sa.PrimaryKeyConstraint("device", "number", name=op.f("pk_events")),
    )


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("rollout", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=127), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("cohort_devices", sa.JSON(), nullable=False),
        sa.Column("cohort_selector", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("retry", sa.Boolean(), nullable=False),
        sa.Column("undoes", sa.String(length=32), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.Column("deltas_done", sa.Integer(), nullable=False),
        sa.Column("deltas_total", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", name=op.f("pk_rollouts")),
        sa.UniqueConstraint("number", name=op.f("uq_rollouts_number")),
    )
    op.create_index(op.f("ix_rollouts_state"), "rollouts", ["state"], unique=False)
    op.create_table(
        "rollout_devices",
        sa.Column("rollout", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("artifact", sa.String(length=64), nullable=True),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("wire_bytes", sa.BigInteger(), nullable=False),
        sa.Column("whole_bytes", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("previous", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["device"], ["devices.device"], name=op.f("fk_rollout_devices_device_devices")
        ),
        sa.ForeignKeyConstraint(
            ["rollout"], ["rollouts.rollout"], name=op.f("fk_rollout_devices_rollout_rollouts")
        ),
        sa.PrimaryKeyConstraint("rollout", "device", name=op.f("pk_rollout_devices")),
    )
    op.create_index(
        "ix_rollout_devices_device", "rollout_devices", ["device", "artifact"], unique=False
    )


def downgrade() -> None:
    op.drop_index("ix_rollout_devices_device", table_name="rollout_devices")
    op.drop_table("rollout_devices")
    op.drop_table("events")
    op.drop_table("device_models")
    op.drop_table("device_artifacts")
    op.drop_index("ix_deltas_target", table_name="deltas")
    op.drop_table("deltas")
    op.drop_index(op.f("ix_artifact_files_digest"), table_name="artifact_files")
    op.drop_table("artifact_files")
    op.drop_index(op.f("ix_rollouts_state"), table_name="rollouts")
    op.drop_table("rollouts")
    op.drop_table("devices")
    op.drop_table("blobs")
    op.drop_table("artifacts")
