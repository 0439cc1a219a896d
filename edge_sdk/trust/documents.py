"""Metadata documents: read within limits, signed, verified by who delegated.

Values are python-tuf's ``Metadata``. A function that changes a document returns a new one, its
version raised and without signatures; ``sign`` gives the bytes that travel.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.api.serialization.json import JSONSerializer

from edge_sdk.base import FormatError, TrustError, UnavailableError
from edge_sdk.trust.limits import VERSION_MAX, metadata_bytes_max
from edge_sdk.trust.names import ROOT, SNAPSHOT, TIMESTAMP

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

LONG = timedelta(days=365)  # signed by people: root, targets, namespaces and their bins
SNAPSHOT_LIFE = timedelta(days=7)
TIMESTAMP_LIFE = timedelta(days=1)

_KINDS: dict[str, type[Signed]] = {ROOT: Root, SNAPSHOT: Snapshot, TIMESTAMP: Timestamp}
_COMPACT = JSONSerializer(compact=True)


def kind_of(role: str) -> type[Signed]:
    """What a document of ``role`` is; every role that is not of the top level holds targets."""
    return _KINDS.get(role, Targets)


def read(role: str, data: bytes, kind: type[T]) -> Metadata[T]:
    """The document that ``data`` is; nothing about it is verified.

    Raises: FormatError (too large, damaged, of another kind than ``role``'s).
    """
    limit = metadata_bytes_max(role)
    if len(data) > limit:
        raise FormatError(f"metadata {role} has {len(data)} bytes; at most {limit} are allowed")
    try:
        document = Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise FormatError(f"metadata {role} cannot be read: {error}") from None
    if not isinstance(document.signed, kind) or kind is not kind_of(role):
        raise FormatError(f"metadata {role} is of another kind: {document.signed.type}")
    if document.signed.version > VERSION_MAX:
        raise FormatError(f"metadata {role} has a version beyond {VERSION_MAX}")
    _check_types(role, document.signed)
    found: Any = document
    return cast(Metadata[T], found)


def _check_types(role: str, signed: Signed) -> None:
    """What python-tuf leaves to whoever uses it. Raises: FormatError."""
    if not isinstance(signed, Targets):
        return
    delegations = signed.delegations
    names = () if delegations is None else delegations.roles or ()
    if not all(isinstance(name, str) for name in names):
        raise FormatError(f"metadata {role} delegates to a role without a name")
    if not all(isinstance(one.custom, dict | None) for one in signed.targets.values()):
        raise FormatError(f"metadata {role} has a target whose custom fields are none")


def signed_part(role: str, document: Metadata[T]) -> bytes:
    """The bytes that signatures of ``document`` are about. Raises: FormatError (it says what
    has no canonical form, such as a fraction)."""
    try:
        return document.signed_bytes
    except SerializationError as error:
        why = error.__cause__ or error
        raise FormatError(f"metadata {role} cannot be signed as it is: {why}") from None


def sign(document: Metadata[T], signers: Iterable[Signer]) -> bytes:
    """The bytes of ``document`` with one more signature by each of ``signers``.

    Raises: UnavailableError (a key elsewhere does not answer).
    """
    signed = copy.deepcopy(document)
    try:
        for signer in signers:
            signed.sign(signer, append=True)
    except UnsignedMetadataError as error:
        raise UnavailableError(f"a key does not sign: {error.__cause__ or error}") from error
    return signed.to_bytes(_COMPACT)


def verify(
    role: str, data: bytes, kind: type[T], *, by: Metadata[Root] | Metadata[Targets]
) -> Metadata[T]:
    """The document that ``data`` is, signed as ``by`` demands of ``role``.

    Raises: FormatError, TrustError (``by`` does not delegate to it, too few good signatures).
    """
    document = read(role, data, kind)
    check_signatures(role, document, by=by)
    return document


def check_signatures(
    role: str, document: Metadata[T], *, by: Metadata[Root] | Metadata[Targets]
) -> None:
    """Raises: TrustError."""
    try:
        by.signed.verify_delegate(role, signed_part(role, document), document.signatures)
    except UnsignedMetadataError:
        raise TrustError(f"metadata {role} is not signed by enough of its keys") from None
    except (ValueError, RepositoryError) as error:
        raise TrustError(f"metadata {role} is not delegated: {error}") from None


def check_successor(role: str, new: Metadata[T], old: Metadata[T] | None) -> None:
    """Raises: TrustError where ``new`` is not the very next version."""
    wanted = 1 if old is None else old.signed.version + 1
    if new.signed.version != wanted:
        raise TrustError(
            f"metadata {role} must have version {wanted} now, not {new.signed.version}",
            role=role,
            version=wanted,
        )


def edited(document: Metadata[T], *, expires: datetime) -> Metadata[T]:
    """A copy to be changed: the next version, a new expiry, no signatures."""
    new = copy.deepcopy(document)
    new.signatures.clear()
    new.signed.version += 1
    new.signed.expires = expires
    return new
