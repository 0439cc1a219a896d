"""How large metadata may be: looked at before a byte of it is parsed.

python-tuf reads a document before it checks its signature, at about 30 times its size in
memory, so what is not bounded by a length in signed metadata is bounded here.
"""

ROOT_BYTES_MAX = 64 << 10
TIMESTAMP_BYTES_MAX = 16 << 10
SNAPSHOT_BYTES_MAX = 1 << 20  # 30,000 roles
TARGETS_BYTES_MAX = 1 << 20
VERSION_MAX = 2**53 - 1  # the metadata format has no bound; a document at its end could not go on


def metadata_bytes_max(role: str) -> int:
    """The most bytes that a document of ``role`` may have."""
    return {
        "root": ROOT_BYTES_MAX,
        "timestamp": TIMESTAMP_BYTES_MAX,
        "snapshot": SNAPSHOT_BYTES_MAX,
    }.get(role, TARGETS_BYTES_MAX)
