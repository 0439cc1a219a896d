"""The audit log as those see it who check it: entries in a hash chain, and its signed heads.

Values only: no database, no network, no clock. The distributor writes with it, the operator's
machine verifies with it, and neither has to trust the other's word.
"""

from edge_sdk.audit.chain import Chain, Entry, decode_entry, encode_entry, first_link
from edge_sdk.audit.heads import Head, VerifierKey, open_note, sign_note
from edge_sdk.audit.verify import Compared, verify_log

__all__ = [
    "Chain",
    "Compared",
    "Entry",
    "Head",
    "VerifierKey",
    "decode_entry",
    "encode_entry",
    "first_link",
    "open_note",
    "sign_note",
    "verify_log",
]
