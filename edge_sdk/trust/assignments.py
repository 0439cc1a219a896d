"""An assignment as it travels: its canonical JSON in a DSSE envelope.

The envelope is https://github.com/secure-systems-lab/dsse, as securesystemslib has it.
"""

from __future__ import annotations

import json

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from edge_sdk.base import FormatError, TrustError
from edge_sdk.trust.delegations import delegated_keys
from edge_sdk.trust.names import ASSIGNMENTS

ENVELOPE_BYTES_MAX = 6 << 20  # the largest assignment as base64, and its signatures
PAYLOAD_TYPE = "application/vnd.edge.assignment+json"
_SIGNATURES_MAX = 16


def seal_assignment(payload: bytes, signer: Signer) -> bytes:
    """The envelope of an assignment's canonical JSON."""
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")).encode()


def open_assignment(data: bytes, targets: Targets) -> bytes:
    """The payload, where a key signed it that verified top-level ``targets`` name for it.

    Raises: FormatError (no envelope), TrustError.
    """
    envelope = _read(data)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise TrustError(f"the envelope holds {envelope.payload_type[:80]!r}, no assignment")
    keys, threshold = delegated_keys(targets, ASSIGNMENTS)
    try:
        envelope.verify(list(keys), threshold)
    except (VerificationError, ValueError):
        raise TrustError("the assignment is not signed by the distributor's key") from None
    return envelope.payload


def peek_assignment(data: bytes) -> bytes:
    """The payload, whoever signed it: for what was verified before. Raises: FormatError."""
    return _read(data).payload


def _read(data: bytes) -> Envelope:
    if len(data) > ENVELOPE_BYTES_MAX:
        raise FormatError(f"the assignment has {len(data)} bytes; {ENVELOPE_BYTES_MAX} are allowed")
    try:
        said = json.loads(data)
        if len(said["signatures"]) > _SIGNATURES_MAX:
            raise FormatError(f"the assignment has more than {_SIGNATURES_MAX} signatures")
        return Envelope.from_dict(said)
    except FormatError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises whatever it stumbles over
        raise FormatError(f"the assignment is no DSSE envelope: {error}") from None
