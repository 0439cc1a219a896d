"""Who somebody is, as a certificate says it: tokens, keys, requests, and the calls to enrol.

Devices and operators use it to get and renew their certificates, the distributor to read what
they send. It keeps no files and has no clock of its own; a secret never shows in a ``repr``.
"""

from edge_sdk.identity.calls import (
    Anchors,
    Issued,
    Pending,
    check_authority,
    check_root,
    enrol,
    first_contact,
    renew,
    renew_expired,
)
from edge_sdk.identity.certificates import (
    CertificateFacts,
    RequestFacts,
    fingerprint,
    read_certificate,
    read_request,
    to_der,
    to_pem,
)
from edge_sdk.identity.identity import Identity
from edge_sdk.identity.keys import FactoryKey, check_proof, make_key, make_request, prove
from edge_sdk.identity.names import Kind, parse_spiffe_id, spiffe_id
from edge_sdk.identity.token import EnrolmentToken, secret_hash, token_name

__all__ = [
    "Anchors",
    "CertificateFacts",
    "EnrolmentToken",
    "FactoryKey",
    "Identity",
    "Issued",
    "Kind",
    "Pending",
    "RequestFacts",
    "check_authority",
    "check_proof",
    "check_root",
    "enrol",
    "fingerprint",
    "first_contact",
    "make_key",
    "make_request",
    "parse_spiffe_id",
    "prove",
    "read_certificate",
    "read_request",
    "renew",
    "renew_expired",
    "secret_hash",
    "spiffe_id",
    "to_der",
    "to_pem",
    "token_name",
]
