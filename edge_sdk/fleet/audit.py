"""The audit log from an operator's side: read, and verified against what was seen before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_sdk.audit import Compared, Entry, Head, VerifierKey, decode_entry, open_note, verify_log
from edge_sdk.base import FormatError, TrustError
from edge_sdk.fleet.connection import Connection
from edge_sdk.fleet.home import FleetHome, KeptHead
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos.operators_v1_pb2_grpc import AuditServiceStub


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """What the distributor says of its log now. ``note``: as it was signed; keep it."""

    head: Head
    note: str
    key: VerifierKey
    known: bool  # whether ``key`` was known before; else it was believed at first sight


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A log that held. ``compared.kept`` none: it was seen for the first time."""

    compared: Compared
    key: VerifierKey
    note: str
    known: bool


class AuditLog:
    """The audit log of the distributor at ``address``; ``home`` (none: the default) keeps
    the head seen last."""

    def __init__(self, connection: Connection, address: str, home: FleetHome | None) -> None:
        self._connection = connection
        self._stub = AuditServiceStub(connection.channel)
        self._address = address
        self._given = home

    @property
    def _home(self) -> FleetHome:
        return self._given or FleetHome.default()

    def entries(self, *, after: int = 0, until: int = 0) -> Iterator[Entry]:
        """The entries as the distributor shows them, oldest first; not verified."""
        for document in self._documents(after, until):
            yield decode_entry(document)

    def head(self, key: VerifierKey | None = None) -> SignedHead:
        """The log's end, signed now; its signature is checked with ``key``, or with the key
        known from before, or else with the one that the distributor names.

        Raises: TrustError.
        """
        return self._answer(self._kept(), key)[0]

    def verify(self, key: VerifierKey | None = None, *, kept_note: str | None = None) -> Verified:
        """Computes the chain again, checks the signatures, and compares with the head that
        this machine saw last, and with ``kept_note``; what held is what it saw last then.

        Raises: TrustError that says what is wrong with the log.
        """
        kept = self._kept()
        signed, earlier = self._answer(kept, key)
        before = _opened(kept.note, signed.key) if kept is not None else None
        if kept_note is not None:
            given = _opened(kept_note, signed.key)
            if before is None or given.size > before.size:
                before = given
            else:
                earlier = [*earlier, given]
        documents = self._documents(0, signed.head.size) if signed.head.size else iter(())
        compared = verify_log(documents, [signed.head, *earlier], kept=before)
        self._home.keep_head(self._address, KeptHead(key=str(signed.key), note=signed.note))
        return Verified(compared=compared, key=signed.key, note=signed.note, known=signed.known)

    def _answer(
        self, kept: KeptHead | None, key: VerifierKey | None
    ) -> tuple[SignedHead, list[Head]]:
        answer = self._connection.repeat(
            lambda: self._stub.SignedHead(
                wire.SignedHeadRequest(), timeout=self._connection.patience.deadline_s
            )
        )
        known = key or (VerifierKey.parse(kept.key) if kept is not None else None)
        try:
            used = known or VerifierKey.parse(answer.key)
        except FormatError as error:
            raise TrustError(f"the distributor names no key of its audit log: {error}") from None
        signed = SignedHead(
            head=open_note(answer.note, used), note=answer.note, key=used, known=known is not None
        )
        return signed, [head for note in answer.earlier if (head := _known(note, used))]

    def _documents(self, after: int, until: int) -> Iterator[bytes]:
        request = wire.ListEntriesRequest(after=after, until=until)
        # Once: a stream opened again after a break would begin anew in the middle.
        stream = self._connection.once_streamed(lambda: self._stub.ListEntries(request))
        for message in stream:
            yield from message.documents

    def _kept(self) -> KeptHead | None:
        return self._home.kept_head(self._address)


def _opened(note: str, key: VerifierKey) -> Head:
    """A head that was kept. Raises: TrustError (by another key than the log's present one)."""
    try:
        return open_note(note, key)
    except TrustError:
        raise TrustError(
            "the head that was kept is not signed by the key that is now given: it cannot be "
            "compared; if the audit key was replaced on purpose, verify with the old key last"
        ) from None


def _known(note: str, key: VerifierKey) -> Head | None:
    """An earlier head; none where a key signed it that was replaced since."""
    try:
        return open_note(note, key)
    except TrustError:
        return None
