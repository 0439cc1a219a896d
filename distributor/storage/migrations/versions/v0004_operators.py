"""Operators with their rights, and the audit log, whose rows only ever come."""

from __future__ import annotations

import hashlib
import secrets

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0002"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("audit_entries", "audit_heads")


def upgrade() -> None:
    _create_operators()
    log = op.create_table(
        "audit_log",
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "audit_entries",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_entries")),
    )
    op.create_table(
        "audit_heads",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(length=8), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("size", "key_id", name=op.f("pk_audit_heads")),
    )
    # A name of its own, so that a log begun anew can be told from the one before.
    origin = f"edge-audit/{secrets.token_hex(8)}"
    head = hashlib.sha256(f"edge-audit-log\n{origin}\n".encode()).hexdigest()
    op.bulk_insert(log, [{"origin": origin, "size": 0, "head": head}])
    _forbid_changes()


def _create_operators() -> None:
    op.create_table(
        "operators",
        sa.Column("operator", sa.String(length=63), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("operator", name=op.f("pk_operators")),
    )
    op.create_table(
        "operator_grants",
        sa.Column("operator", sa.String(length=63), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["operator"],
            ["operators.operator"],
            name=op.f("fk_operator_grants_operator_operators"),
        ),
        sa.PrimaryKeyConstraint("operator", "namespace", "role", name=op.f("pk_operator_grants")),
    )
    op.create_table(
        "operator_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("operator", sa.String(length=63), nullable=False),
        sa.Column("grants", sa.JSON(), nullable=False),
        sa.Column("purpose", sa.String(length=128), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operator"],
            ["operators.operator"],
            name=op.f("fk_operator_tokens_operator_operators"),
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_operator_tokens")),
    )
    op.create_index(op.f("ix_operator_tokens_operator"), "operator_tokens", ["operator"])


def _forbid_changes() -> None:
    """Triggers: entries and heads stay as they are, the log only grows and keeps its name."""
    if op.get_bind().dialect.name == "postgresql":
        _forbid_on_postgresql()
        return
    for table in _APPEND_ONLY:
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    op.execute(
        "CREATE TRIGGER audit_log_grows BEFORE UPDATE ON audit_log "
        "WHEN NEW.origin <> OLD.origin OR NEW.size <> OLD.size + 1 "
        "BEGIN SELECT RAISE(ABORT, 'audit_log only grows'); END"
    )
    op.execute(
        "CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log "
        "BEGIN SELECT RAISE(ABORT, 'audit_log only grows'); END"
    )


def _forbid_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
        )
    op.execute(
        "CREATE TRIGGER audit_log_stays BEFORE DELETE OR TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    )
    op.execute(
        "CREATE TRIGGER audit_log_grows BEFORE UPDATE ON audit_log FOR EACH ROW "
        "WHEN (NEW.origin <> OLD.origin OR NEW.size <> OLD.size + 1) "
        "EXECUTE FUNCTION audit_refuse()"
    )


def downgrade() -> None:
    for table in ("audit_heads", "audit_entries", "audit_log"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_refuse()")
    op.drop_index(op.f("ix_operator_tokens_operator"), table_name="operator_tokens")
    op.drop_table("operator_tokens")
    op.drop_table("operator_grants")
    op.drop_table("operators")
