"""What the distributor signs by itself: which versions belong together, and that they are the
newest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone

from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from edge_sdk.trust.documents import SNAPSHOT_LIFE, TIMESTAMP_LIFE, edited
from edge_sdk.trust.names import BIN_PREFIX

_SIGNED_AT = "x-signed-at"
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # as the specification writes ``expires``


def next_snapshot(
    changed: Mapping[str, tuple[int, bytes]], previous: Metadata[Snapshot] | None, *, now: datetime
) -> Metadata[Snapshot]:
    """The next snapshot: ``previous`` with the documents that ``changed`` (version and bytes by
    role). It never drops a role: clients would refuse it.

    Lengths and hashes are in it, so that nothing else is ever parsed. Of bins only versions are:
    a thousand hashes would be most of what a device fetches for one artifact (154 KB instead of
    50 at 100,000 artifacts), bins are bounded by ``TARGETS_BYTES_MAX`` anyway, and no two
    documents that a publisher signed for a bin have the same version.
    """
    if previous is None:
        new = Metadata(Snapshot(version=1, expires=now + SNAPSHOT_LIFE, meta={}))
    else:
        new = edited(previous, expires=now + SNAPSHOT_LIFE)
    for role, (version, data) in changed.items():
        is_bin = role.startswith(BIN_PREFIX)
        new.signed.meta[f"{role}.json"] = MetaFile(version) if is_bin else _meta(version, data)
    return new


def next_timestamp(
    snapshot: tuple[int, bytes], previous: Metadata[Timestamp] | None, *, now: datetime
) -> Metadata[Timestamp]:
    """The next timestamp, over the snapshot of this version and these bytes.

    It says when it was signed: for a device without a clock, the time it is at least.
    """
    meta = _meta(*snapshot)
    if previous is None:
        new = Metadata(Timestamp(version=1, expires=now + TIMESTAMP_LIFE, snapshot_meta=meta))
    else:
        new = edited(previous, expires=now + TIMESTAMP_LIFE)
        new.signed.snapshot_meta = meta
    new.signed.unrecognized_fields[_SIGNED_AT] = now.strftime(_TIME)
    return new


def signed_at(timestamp: Timestamp) -> datetime | None:
    """When ``timestamp`` was signed; None where it does not say so."""
    said = timestamp.unrecognized_fields.get(_SIGNED_AT)
    try:
        return datetime.strptime(str(said), _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
