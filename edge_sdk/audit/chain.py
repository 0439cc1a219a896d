"""One entry of the audit log, its only spelling, and the chain that ties entries together.

An entry is canonical JSON (keys sorted, no white space, every field present) that holds the
SHA-256 of the entry before it; the first holds the SHA-256 of the log's name. Whoever changes,
removes or inserts one changes the digest of everything after it.
"""

from __future__ import annotations

import msgspec

from edge_sdk.base import Digest, EdgeError, FormatError, TrustError

ENTRY_BYTES_MAX = 16 << 10
_TEXT_MAX = 512
_FACTS_MAX = 32
_SCHEMA = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who did what to which object, when, by which right.

    kind: of who did it: "operator", "device" (enrolment), "host" (on the distributor's own
    machine), "distributor" (by itself, such as a rotation). role: by which it was allowed; empty
    where no role was asked. via: what proved who it was ("certificate", "token", ...). request:
    SHA-256 of the request as it came, in hexadecimal digits; empty where none came. facts: what
    else one wants to know of it. None of it is ever a secret.
    """

    number: int
    at_ms: int
    kind: str
    actor: str
    role: str
    via: str
    action: str
    object: str
    request: str
    facts: dict[str, str]
    previous: str
    schema: int = _SCHEMA


def encode_entry(entry: Entry) -> bytes:
    """The bytes that an entry is. Raises: FormatError where a value breaks a rule."""
    _check(entry)
    return msgspec.json.encode(entry, order="sorted")


def decode_entry(document: bytes) -> Entry:
    """Reads an entry. Raises: FormatError, also for any other spelling of the same value."""
    if len(document) > ENTRY_BYTES_MAX:
        raise FormatError(f"an audit entry of {len(document)} bytes: at most {ENTRY_BYTES_MAX}")
    try:
        entry = msgspec.json.decode(document, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"that is no audit entry: {error}") from None
    if encode_entry(entry) != document:
        raise FormatError(f"audit entry {entry.number} is not in canonical form")
    return entry


def _check(entry: Entry) -> None:
    if entry.schema != _SCHEMA:
        raise FormatError(f"audit entry {entry.number} has schema {entry.schema}, not {_SCHEMA}")
    if not 1 <= entry.number < 2**53 or not 0 <= entry.at_ms < 2**53:
        raise FormatError(f"audit entry {entry.number} at {entry.at_ms} ms is out of range")
    texts = (entry.kind, entry.actor, entry.role, entry.via, entry.action, entry.object)
    facts = [text for pair in entry.facts.items() for text in pair]
    if any(len(text) > _TEXT_MAX for text in (*texts, *facts)) or len(entry.facts) > _FACTS_MAX:
        raise FormatError(f"audit entry {entry.number} says too much in one field")
    Digest.parse(entry.previous)
    if entry.request:
        Digest.parse(entry.request)


def first_link(origin: str) -> Digest:
    """What the first entry of the log ``origin`` names as the one before it."""
    return Digest.of(f"edge-audit-log\n{origin}\n".encode())


class Chain:
    """Follows a log entry by entry. ``size`` and ``head``: of what was read up to now."""

    def __init__(self, origin: str, *, size: int = 0, head: Digest | None = None) -> None:
        self.size = size
        self.head = first_link(origin) if head is None else head

    def follow(self, document: bytes) -> Entry:
        """Takes the next entry. Raises: TrustError where it does not continue the chain."""
        try:
            entry = decode_entry(document)
        except EdgeError as error:
            raise TrustError(
                f"the audit log is broken after entry {self.size}: {error.message}", entry=self.size
            ) from None
        if entry.number != self.size + 1:
            raise TrustError(
                f"the audit log goes on with entry {entry.number} after entry {self.size}: entries "
                "were taken out, put in, or put elsewhere",
                entry=self.size,
            )
        if entry.previous != str(self.head):
            raise TrustError(
                f"audit entry {entry.number} does not follow the one before it: one of the two was "
                "changed afterwards",
                entry=entry.number,
            )
        self.size, self.head = entry.number, Digest.of(document)
        return entry
