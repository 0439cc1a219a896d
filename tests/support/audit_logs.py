"""Audit logs of a test's own: documents in a chain, and heads signed by a key made here."""

from __future__ import annotations

from collections.abc import Sequence

from securesystemslib.signer import CryptoSigner

from edge_sdk.audit import Chain, Entry, Head, VerifierKey, encode_entry, open_note, sign_note

ORIGIN = "edge-audit/test"
AT_MS = 1_700_000_000_000


def entry(number: int, previous: str, **facts: object) -> Entry:
    values: dict[str, object] = {
        "at_ms": AT_MS + number,
        "kind": "operator",
        "actor": "alice",
        "role": "deployer",
        "via": "certificate",
        "action": "rollout.create",
        "object": f"team/digits {number}.0.0",
        "request": "",
        "facts": {},
    }
    return Entry(number=number, previous=previous, **(values | facts))  # type: ignore[arg-type]


def log(count: int, *, origin: str = ORIGIN, **facts: object) -> list[bytes]:
    """A log of ``count`` entries."""
    chain, documents = Chain(origin), []
    for number in range(1, count + 1):
        documents.append(encode_entry(entry(number, str(chain.head), **facts)))
        chain.follow(documents[-1])
    return documents


def head_of(documents: Sequence[bytes], *, origin: str = ORIGIN) -> Head:
    chain = Chain(origin)
    for document in documents:
        chain.follow(document)
    return Head(origin=origin, size=chain.size, digest=chain.head, at_ms=AT_MS)


class Notary:
    """A key that signs heads."""

    def __init__(self, origin: str = ORIGIN) -> None:
        self.signer = CryptoSigner.generate_ed25519()
        self.key = VerifierKey.of(origin, self.signer.public_key)  # type: ignore[arg-type]

    def note(self, head: Head) -> str:
        return sign_note(head, self.signer)

    def signed(self, head: Head) -> Head:
        return open_note(self.note(head), self.key)
