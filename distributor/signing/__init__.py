"""Signed metadata (The Update Framework) as the distributor keeps them.

Takes what publishers signed, if a client would believe it; signs with online keys which
documents belong together, that they are the newest, and what each device should run. It never
holds a key that can make an artifact installable. Functions over a connection.
"""

from distributor.signing.keys import OnlineKeys
from distributor.signing.records import find_root, metadata_file
from distributor.signing.repository import (
    RENEW_TIMESTAMP_EVERY,
    Put,
    check_floor,
    check_signed,
    online_keys,
    put,
    renew,
    seal,
)

__all__ = [
    "RENEW_TIMESTAMP_EVERY",
    "OnlineKeys",
    "Put",
    "check_floor",
    "check_signed",
    "find_root",
    "metadata_file",
    "online_keys",
    "put",
    "renew",
    "seal",
]
