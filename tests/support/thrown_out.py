"""Who came in, and whose key is refused, in a catalog without a server."""

from __future__ import annotations

from distributor import identity
from distributor.identity import Vouched
from edge_sdk.base import Digest
from edge_sdk.identity import Kind, RequestFacts, secret_hash
from tests.support.catalog import AT_MS, Catalog


def enrol(
    one: Catalog, device: str, *, name: str = "", key: str = "a", kind: Kind = "device"
) -> None:
    """Lets a device (or an operator) in with a token, made for ``name``, and a key of its own."""
    secret, _ = one.write(
        identity.create_token,
        kind=kind,
        name=name,
        uses=1,
        approval=False,
        expires_ms=AT_MS,
        created_by="a",
        at_ms=0,
    )
    mark = str(Digest.of(f"{device} {key}".encode()))
    asked = RequestFacts(kind=kind, name=device, key=mark, der=b"")
    vouched = Vouched(secret_hash=secret_hash(bytes.fromhex(secret)))
    one.write(identity.admit, asked, vouched, at_ms=1)


def throw_out(one: Catalog, device: str, *, reason: str = "stolen") -> None:
    """Revokes the key of a device that came in."""
    enrol(one, device)
    one.write(identity.revoke, "device", device, reason, at_ms=2)
