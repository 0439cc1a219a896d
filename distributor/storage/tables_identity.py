"""The tables of who is enrolled. A key is named by the SHA-256 of its public half.

Secrets are stored as their SHA-256 only.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Table, Text

from distributor.storage.tables import DIGEST, METADATA, NAME

KIND = String(16)

tokens = Table(
    "tokens",
    METADATA,
    Column("secret_hash", DIGEST, primary_key=True),
    Column("token", String(12), nullable=False, unique=True),
    Column("kind", KIND, nullable=False),
    Column("name", NAME, nullable=False),  # "": for any new one
    Column("uses", Integer, nullable=False),
    Column("approval", Boolean, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", NAME, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

token_keys = Table(
    "token_keys",
    METADATA,
    Column("secret_hash", DIGEST, ForeignKey("tokens.secret_hash"), primary_key=True),
    Column("key", DIGEST, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("used_ms", BigInteger, nullable=False),
)

identities = Table(
    "identities",
    METADATA,
    Column("kind", KIND, primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("how", String(128), nullable=False),
    Column("key", DIGEST, nullable=False),  # "": none yet
    Column("authority", DIGEST, nullable=False),
    Column("factory_serial", String(64), nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("mark", DIGEST, nullable=False),  # of its last check-in; "": none yet
)

refused_keys = Table(
    "refused_keys",
    METADATA,
    Column("key", DIGEST, primary_key=True),
    Column("kind", KIND, nullable=False),
    Column("name", NAME, nullable=False),
    Column("reason", Text, nullable=False),
    Column("refused_ms", BigInteger, nullable=False),
)
