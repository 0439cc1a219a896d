"""Evidence that others made of an artifact: signatures of models, provenance of builds.

Both are in-toto statements in a signed envelope, verified offline against the keys and
authorities that a policy names, and held against the artifact's manifest. No clock, no network.
"""

from edge_sdk.evidence.bundle import EVIDENCE_BYTES_MAX
from edge_sdk.evidence.check import (
    EVIDENCE_KEPT_BYTES_MAX,
    EVIDENCE_KEPT_MAX,
    EVIDENCE_MAX,
    Evidence,
    check_evidence,
    claimed_kind,
    find_evidence,
    missing_evidence,
)
from edge_sdk.evidence.policy import EvidencePolicy, Required, load_policy
from edge_sdk.evidence.statement import Kind, made_sample

__all__ = [
    "EVIDENCE_BYTES_MAX",
    "EVIDENCE_KEPT_BYTES_MAX",
    "EVIDENCE_KEPT_MAX",
    "EVIDENCE_MAX",
    "Evidence",
    "EvidencePolicy",
    "Kind",
    "Required",
    "check_evidence",
    "claimed_kind",
    "find_evidence",
    "load_policy",
    "made_sample",
    "missing_evidence",
]
