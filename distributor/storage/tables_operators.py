"""The tables of operators, their rights and the audit log; ``tables`` has the rest.

The audit log's rows cannot be changed or removed: the migration adds triggers that say no.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, LargeBinary, String, Table, Text

from distributor.storage.tables import DIGEST, METADATA, NAME

audit_log = Table(
    "audit_log",  # one row; whoever appends locks it
    METADATA,
    Column("origin", String(128), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("head", DIGEST, nullable=False),
)

audit_entries = Table(
    "audit_entries",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),  # exactly what is hashed
)

audit_heads = Table(
    "audit_heads",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", String(8), primary_key=True),  # of the key that signed
    Column("note", Text, nullable=False),
)

operators = Table(
    "operators",
    METADATA,
    Column("operator", NAME, primary_key=True),
    Column("added_ms", BigInteger, nullable=False),
    Column("added_by", NAME, nullable=False),
)

operator_grants = Table(
    "operator_grants",
    METADATA,
    Column("operator", NAME, ForeignKey("operators.operator"), primary_key=True),
    Column("namespace", NAME, primary_key=True),  # "*": every namespace
    Column("role", String(16), primary_key=True),
)

operator_tokens = Table(
    "operator_tokens",
    METADATA,
    Column("digest", DIGEST, primary_key=True),  # SHA-256 of the secret, which is not kept
    Column("operator", NAME, ForeignKey("operators.operator"), nullable=False, index=True),
    Column("grants", JSON, nullable=False),  # at most these; the operator's own still count
    Column("purpose", String(128), nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)
