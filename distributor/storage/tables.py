"""The tables of the catalog, for SQLite and PostgreSQL alike.

Digests are 64 hexadecimal digits, times are milliseconds since 1970, structured values are
JSON that is only ever read and written whole. ``migrations/`` builds exactly these tables;
a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

DIGEST = String(64)
NAME = String(63)
MODEL = String(127)
VERSION = String(64)

blobs = Table(
    "blobs",
    METADATA,
    Column("digest", DIGEST, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("damaged", Boolean, nullable=False),  # its bytes were found not to be its name's
    Column("sha256", DIGEST),  # of its bytes; none: not computed yet
)

artifacts = Table(
    "artifacts",
    METADATA,
    Column("artifact", DIGEST, primary_key=True),
    Column("model", MODEL, nullable=False),
    Column("version", VERSION, nullable=False),
    Column("variant", NAME, nullable=False),
    Column("parent", VERSION),
    Column("format", NAME, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("published_ms", BigInteger, nullable=False),
    Column("published_by", NAME, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    UniqueConstraint("model", "version", "variant"),
)

artifact_files = Table(
    "artifact_files",
    METADATA,
    Column("artifact", DIGEST, ForeignKey("artifacts.artifact"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", DIGEST, ForeignKey("blobs.digest"), nullable=False, index=True),
)

evidence = Table(
    "evidence",  # what others signed about an artifact, and was believed when it was published
    METADATA,
    Column("artifact", DIGEST, ForeignKey("artifacts.artifact"), primary_key=True),
    Column("digest", DIGEST, primary_key=True),  # of the document
    Column("kind", String(32), nullable=False),
    Column("signer", Text, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    Column("added_by", NAME, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

deltas = Table(
    "deltas",
    METADATA,
    Column("source", DIGEST, primary_key=True),  # "": from nothing
    Column("target", DIGEST, ForeignKey("artifacts.artifact"), primary_key=True),
    Column("capability", String(512), primary_key=True),
    Column("delta", DIGEST, ForeignKey("blobs.digest"), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("decoder_memory_bytes", BigInteger, nullable=False),
    Column("methods", JSON, nullable=False),
    Column("built_ms", BigInteger, nullable=False),
    Column("build_ms", BigInteger, nullable=False),
    Index("ix_deltas_target", "target"),
)

devices = Table(
    "devices",
    METADATA,
    Column("device", NAME, primary_key=True),
    Column("declared_labels", JSON, nullable=False),
    Column("operator_labels", JSON, nullable=False),  # null as a value: the label is removed
    Column("capabilities", JSON, nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("disk_free_bytes", BigInteger),  # none: the device did not say
    Column("agent_version", String(64), nullable=False),
    Column("accepted_counter", BigInteger, nullable=False),  # newest that the device accepted
    Column("assigned_counter", BigInteger, nullable=False),  # newest made for it
    Column("assignment", LargeBinary),  # the document of assigned_counter
    Column("acknowledged_event", BigInteger, nullable=False),
    Column("refusal", JSON),  # what it refused last, until it took something up
)

device_artifacts = Table(
    "device_artifacts",
    METADATA,
    Column("device", NAME, ForeignKey("devices.device"), primary_key=True),
    Column("artifact", DIGEST, primary_key=True),  # may be one that this catalog never saw
)

device_models = Table(
    "device_models",
    METADATA,
    Column("device", NAME, ForeignKey("devices.device"), primary_key=True),
    Column("model", MODEL, primary_key=True),
    Column("active_artifact", DIGEST),
    Column("active_version", VERSION),
    Column("state", String(32), nullable=False),
    Column("candidate_artifact", DIGEST),
    Column("reason", Text, nullable=False),
)

rollouts = Table(
    "rollouts",
    METADATA,
    Column("rollout", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),  # order of creation
    Column("model", MODEL, nullable=False),
    Column("version", VERSION, nullable=False),  # "": an undo, which differs by device
    Column("cohort_devices", JSON, nullable=False),
    Column("cohort_selector", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("retry", Boolean, nullable=False),
    Column("undoes", String(32), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", NAME, nullable=False),
    Column("deltas_done", Integer, nullable=False),
    Column("deltas_total", Integer, nullable=False),
)

# The models that come as one group with that of ``rollouts``.
rollout_together = Table(
    "rollout_together",
    METADATA,
    Column("rollout", String(32), ForeignKey("rollouts.rollout"), primary_key=True),
    Column("model", MODEL, primary_key=True, index=True),
    Column("version", VERSION, nullable=False),  # as that of ``rollouts``
    Column("place", Integer, nullable=False),  # in the order in which they were named
)

rollout_devices = Table(
    "rollout_devices",
    METADATA,
    Column("rollout", String(32), ForeignKey("rollouts.rollout"), primary_key=True),
    Column("device", NAME, ForeignKey("devices.device"), primary_key=True),
    Column("model", MODEL, primary_key=True),
    Column("artifact", DIGEST),  # none: no variant fits, or an undo takes the model away
    Column("version", VERSION, nullable=False),
    Column("variant", NAME, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("counter", BigInteger, nullable=False),  # assignment that brought it; 0: none yet
    Column("event", BigInteger, nullable=False),  # number of the last event counted; 0: none
    Column("wire_bytes", BigInteger, nullable=False),
    Column("whole_bytes", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("previous", JSON),  # the model's entry in the assignment before this rollout
    Index("ix_rollout_devices_device", "device", "artifact"),
)

events = Table(
    "events",
    METADATA,
    Column("device", NAME, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("model", MODEL, nullable=False),
    Column("version", VERSION, nullable=False),
    Column("artifact", DIGEST, nullable=False),
    Column("rollout", String(32), nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("facts", JSON, nullable=False),
    ForeignKeyConstraint(["device"], ["devices.device"]),
)

# Versions of signed metadata are text, 20 digits with leading zeros, so that they sort: the
# format sets them no bound that a column of integers would have.
METADATA_VERSION = String(20)

metadata_documents = Table(
    "metadata_documents",
    METADATA,
    Column("role", String(128), primary_key=True),
    Column("version", METADATA_VERSION, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("put_ms", BigInteger, nullable=False),
    Column("put_by", NAME, nullable=False),  # "": signed here
)

metadata_roles = Table(
    "metadata_roles",
    METADATA,
    Column("role", String(128), primary_key=True),
    Column("version", METADATA_VERSION, nullable=False),  # the newest
)

signed_targets = Table(
    "signed_targets",
    METADATA,
    Column("path", Text, primary_key=True),
    Column("role", String(128), nullable=False, index=True),  # whose document has it
    Column("artifact", DIGEST, ForeignKey("artifacts.artifact"), nullable=False, index=True),
    Column("model", MODEL, nullable=False, index=True),
    Column("floor", VERSION),  # what its publisher says: nothing older from now on
)

sealed_assignments = Table(
    "sealed_assignments",
    METADATA,
    Column("device", NAME, ForeignKey("devices.device"), primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("key_id", String(128), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
