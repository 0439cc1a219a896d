"""The audit log: every change that an operator or an enrolment causes is one entry of a hash
chain, written in the transaction of the change itself.

``append`` inside a transaction, or ``recorded`` around a function that makes the change. What
did not happen has no entry, and what has no entry did not happen. Entries never hold secrets.
"""

from distributor.audit.acts import Act, append, entries, log_state, recorded
from distributor.audit.signing import HeadSigner, audit_signer, signed_notes

__all__ = [
    "Act",
    "HeadSigner",
    "append",
    "audit_signer",
    "entries",
    "log_state",
    "recorded",
    "signed_notes",
]
