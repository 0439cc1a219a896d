"""Who may speak to this distributor: its authority, tokens, and the rows of who is enrolled.

Knows no gRPC and has no clock of its own: times are arguments, by the server's clock.
"""

from distributor.identity.authority import (
    Authority,
    issue_client,
    load_authority,
    make_authority,
)
from distributor.identity.factory import check_factory
from distributor.identity.folder import Authorities, IdentityFolder, ServerFiles, write_secret
from distributor.identity.issuer import Issuer, ListenerFiles
from distributor.identity.model import (
    IdentityRecord,
    Mark,
    PendingMax,
    RefusedKey,
    State,
    TokenRecord,
    Vouched,
)
from distributor.identity.records import (
    admit,
    approve,
    check_renewal,
    count_refused,
    find_identity,
    get_identity,
    list_identities,
    note_check_in,
    note_issued,
    refused,
    revoke,
)
from distributor.identity.tokens import create_token, get_token, list_tokens, revoke_token

__all__ = [
    "Authorities",
    "Authority",
    "IdentityFolder",
    "IdentityRecord",
    "Issuer",
    "ListenerFiles",
    "Mark",
    "PendingMax",
    "RefusedKey",
    "ServerFiles",
    "State",
    "TokenRecord",
    "Vouched",
    "admit",
    "approve",
    "check_factory",
    "check_renewal",
    "count_refused",
    "create_token",
    "find_identity",
    "get_identity",
    "get_token",
    "issue_client",
    "list_identities",
    "list_tokens",
    "load_authority",
    "make_authority",
    "note_check_in",
    "note_issued",
    "refused",
    "revoke",
    "revoke_token",
    "write_secret",
]
