"""Signs the log's head: at intervals, and whenever somebody asks for it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey
from sqlalchemy import Connection, insert, select

from distributor.audit.acts import LogState, entries, log_state
from distributor.storage import Database
from distributor.storage.tables_operators import audit_heads
from edge_sdk.audit import Chain, Head, VerifierKey, open_note, sign_note
from edge_sdk.base import (
    EdgeError,
    FormatError,
    TrustError,
    UsageError,
    explain_os_error,
    sync_folder,
)
from edge_sdk.trust import environment_passphrase, open_signer, public_at

_LOG = logging.getLogger(__name__)
_PAGE = 500


def audit_signer(file: Path, *, uri: str = "", public: str = "") -> Signer:
    """The key that ``uri`` names; without one that in ``file``, made there (mode 0600) where
    there is none yet. ``public``: a PEM file with the public half, which ``edge-key:`` needs not.

    Raises: FormatError (not an Ed25519 key), UsageError, TrustError (not the private half of
    ``public``, wrong passphrase), ResourceError.
    """
    if uri:
        key = _public_of(uri, public)
        VerifierKey.of("edge-audit", key)  # Ed25519, or heads cannot be signed
        return open_signer(uri, key, _from_environment)
    if public:
        raise UsageError("audit_public says whose key it is only together with audit_key")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _make_key(file)
        private = load_pem_private_key(file.read_bytes(), None)
    except OSError as error:
        raise explain_os_error(error, file) from error
    except (ValueError, TypeError):
        raise FormatError(f"{file} is not the audit log's key; put the one from before back") from (
            None
        )
    if not isinstance(private, Ed25519PrivateKey):
        raise FormatError(f"{file} holds no Ed25519 key")
    return CryptoSigner(private)


def _public_of(uri: str, public: str) -> SSlibKey:
    if not public:
        known = public_at(uri)
        if known is None:
            raise UsageError(f"audit_key {uri} needs its public half: audit_public")
        return known
    file = Path(public)
    try:
        return SSlibKey.from_crypto(load_pem_public_key(file.read_bytes()))
    except OSError as error:
        raise explain_os_error(error, file) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError(f"{file} is no public key in PEM: {error}") from None


def _from_environment(name: str) -> bytes:
    """Nobody sits at a server who could be asked."""
    found = environment_passphrase(name)
    if found is None:
        raise UsageError(f"the audit log's key asks for its {name}; set EDGE_KEY_PASSPHRASE_FILE")
    return found


def _make_key(file: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)
    sync_folder(file.parent)


class HeadSigner:
    """Signs heads of one log with one key. ``clock_ms``: milliseconds since 1970."""

    def __init__(
        self, database: Database, signer: Signer, *, clock_ms: Callable[[], int], every_s: float
    ) -> None:
        self._database = database
        self._signer = signer
        self._clock_ms = clock_ms
        self._every_s = every_s
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def key(self) -> VerifierKey:
        return self._key((await self._database.read(log_state)).origin)

    def _key(self, origin: str) -> VerifierKey:
        return VerifierKey.of(origin, self._signer.public_key)  # type: ignore[arg-type]

    async def sign(self) -> str:
        """A signed note of the log's end as it is now.

        Raises: TrustError (the log is not what was signed before: it is not signed again).
        """
        async with self._turn:
            note, end = await self._database.read(self._newest)
            if note is not None:
                return note
            head = Head(origin=end.origin, size=end.size, digest=end.head, at_ms=self._clock_ms())
            signed = await asyncio.to_thread(sign_note, head, self._signer)
            key_id = self._key(end.origin).key_id.hex()
            return await self._database.write(_keep, end.size, key_id, signed)

    def _newest(self, connection: Connection) -> tuple[str | None, LogState]:
        """The end, proved to continue what was signed last, and its note where there is one.

        A key that is new begins with the first entry: what the key before it signed is for
        the operators to compare, who keep keys and heads.
        """
        end = log_state(connection)
        key = self._key(end.origin)
        row = connection.execute(
            select(audit_heads.c.note)
            .where(audit_heads.c.key_id == key.key_id.hex())
            .order_by(audit_heads.c.size.desc())
            .limit(1)
        ).first()
        chain = Chain(end.origin)
        if row is not None:
            before = open_note(row.note, key)
            chain = Chain(end.origin, size=before.size, head=before.digest)
        while page := entries(connection, after=chain.size, until=end.size, limit=_PAGE):
            for document in page:
                chain.follow(document)
        if (chain.size, chain.head) != (end.size, end.head):
            raise TrustError(
                f"the audit log does not continue what was signed of it: entry {chain.size} of "
                f"{end.size}; restore the catalog, and find out who wrote to it"
            )
        return (row.note if row is not None and before.size == end.size else None), end

    def start(self) -> None:
        """Signs each ``every_s`` seconds what came meanwhile, until closed."""
        self._task = asyncio.create_task(self._keep_signing())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_signing(self) -> None:
        while True:
            try:
                await self.sign()
            except EdgeError as error:
                _LOG.error("the head of the audit log was not signed: %s", error.message)
            except Exception:  # noqa: BLE001 - logged, and tried again
                _LOG.exception("the head of the audit log was not signed")
            await asyncio.sleep(self._every_s)


def signed_notes(connection: Connection, *, limit: int) -> list[str]:
    """The newest signed notes, newest first."""
    rows = connection.execute(
        select(audit_heads.c.note).order_by(audit_heads.c.size.desc()).limit(limit)
    )
    return [row.note for row in rows]


def _keep(connection: Connection, size: int, key_id: str, note: str) -> str:
    """The note that is kept: another replica may have signed the same end a moment before."""
    where = (audit_heads.c.size == size, audit_heads.c.key_id == key_id)
    there = connection.execute(select(audit_heads.c.note).where(*where)).first()
    if there is not None:
        return str(there.note)
    connection.execute(insert(audit_heads).values(size=size, key_id=key_id, note=note))
    return note
