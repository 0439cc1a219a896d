"""Changes of who may sign what, drafted by one, signed by several, put when enough did.

A ceremony is a folder of metadata files under their wire names, signed so far by whoever had it;
``before/`` in it holds the root and the targets that it follows, so that signing needs neither
a network nor anything else. Pure but for that folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, Targets

from edge_sdk.base import (
    ConflictError,
    FormatError,
    NotFoundError,
    RefusedError,
    UsageError,
    explain_os_error,
    whole_file,
)
from edge_sdk.fleet.ceremony_checks import check_folder
from edge_sdk.fleet.repository import File, Keys, Repository
from edge_sdk.trust import (
    ASSIGNMENTS,
    LONG,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    delegate_assignments,
    delegate_namespace,
    edited,
    file_name,
    metadata_bytes_max,
    namespace_of,
    namespace_role,
    new_namespace,
    new_root,
    new_targets,
    parse_file_name,
    re_signed,
    read,
    sign,
    signed_part,
    with_keys,
)

T = TypeVar("T", Root, Targets)
Document = Metadata[Root] | Metadata[Targets]
Online = Mapping[str, Key]  # the distributor's keys: snapshot, timestamp, assignments
_BEFORE = "before"
_NOTHING_TO_SIGN = "none of these keys is wanted, or all of them have signed already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Who is to sign: ``keys`` with ``threshold`` of them. None keeps what there is."""

    keys: Sequence[Key] | None = None
    threshold: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The signatures that one delegator demands of one document."""

    name: str  # of the file
    by: str  # which document demands it
    threshold: int
    signed: tuple[str, ...]  # key ids
    unsigned: tuple[str, ...]

    @property
    def missing(self) -> int:
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """Documents to be signed and put together, and the two that they follow."""

    root_before: Metadata[Root] | None
    targets_before: Metadata[Targets] | None
    documents: Mapping[str, Document]  # by wire name

    def wanted(self) -> tuple[Wanted, ...]:
        """What has to be signed and by whom; a root is demanded by two."""
        return tuple(
            _wanted(name, by, delegator, document)
            for name, document in self.documents.items()
            for by, delegator in self._delegators(name, document)
        )

    @property
    def roots(self) -> list[Metadata[Root]]:
        """The one before, and the new one."""
        held = [self.root_before, *self.documents.values()]
        return [cast("Metadata[Root]", one) for one in held if one and one.signed.type == ROOT]

    def signed_by(self, keys: Keys) -> Ceremony:
        """With a signature of every key that is wanted and is among ``keys``.

        Raises: RefusedError where not one of them is.
        """
        documents = dict(self.documents)
        for name, (role, ids) in self._unsigned().items():
            signers = keys.signers(role, ids) if ids else []
            if signers:
                documents[name] = _also_signed(name, documents[name], signers)
        if documents == self.documents:
            raise RefusedError(_NOTHING_TO_SIGN)
        return Ceremony(
            root_before=self.root_before, targets_before=self.targets_before, documents=documents
        )

    def check_wanted(self, public: Callable[[str], Iterable[Key]]) -> None:
        """That a signature of somebody's keys (``public``: by role) is wanted, before anybody
        is asked for anything. Raises: RefusedError."""
        for role, ids in self._unsigned().values():
            if any(one.keyid in ids for one in public(role)):
                return
        raise RefusedError(_NOTHING_TO_SIGN)

    def _unsigned(self) -> dict[str, tuple[str, list[str]]]:
        """By document: the role as which keys are listed, and the ids that have not signed."""
        found = {}
        for name, document in self.documents.items():
            ids = {
                one
                for by, delegator in self._delegators(name, document)
                for one in _wanted(name, by, delegator, document).unsigned
            }
            found[name] = (_listed_as(parse_file_name(name)[0]), sorted(ids))
        return found

    def files(self) -> list[File]:
        """As they are put. Raises: RefusedError where signatures are missing."""
        short = [one for one in self.wanted() if one.missing]
        if short:
            one = short[0]
            raise RefusedError(
                f"{one.name} lacks {one.missing} of {one.threshold} signatures that {one.by} "
                f"demands: {', '.join(one.unsigned)}"
            )
        return [(name, _bytes_of(document)) for name, document in self.documents.items()]

    def _delegators(self, name: str, document: Document) -> list[tuple[str, Document]]:
        role, _ = parse_file_name(name)
        root = self._newest(ROOT, self.root_before)
        targets = self._newest(TARGETS, self.targets_before)
        if role == ROOT:
            found = [("the new root", document)]
            return (
                found if self.root_before is None else [("the old root", self.root_before), *found]
            )
        if role == TARGETS:
            return [] if root is None else [("the root", root)]
        if role != namespace_role(_namespace(role)):
            parent = self._newest(namespace_role(_namespace(role)), None)
            return [] if parent is None else [("its namespace", parent)]
        return [] if targets is None else [("the targets", targets)]

    def _newest(self, role: str, before: Any) -> Any:
        """The document of ``role`` that is to be put, or the one from before."""
        drafted = [one for name, one in self.documents.items() if parse_file_name(name)[0] == role]
        return drafted[0] if drafted else before


# -- drafting ----------------------------------------------------------------------------------


def draft_first(
    online: Online,
    *,
    root: Signers,
    targets: Signers,
    namespaces: Mapping[str, Signers],
    now: datetime,
) -> Ceremony:
    """The beginning: version 1 of everything. Raises: UsageError, RefusedError."""
    if not root.keys or not targets.keys or not namespaces:
        raise UsageError("the first metadata need keys for root, targets and a namespace")
    first = new_root(
        root_keys=root.keys,
        threshold=root.threshold or 1,
        targets_keys=targets.keys,
        targets_threshold=targets.threshold or 1,
        snapshot_key=online[SNAPSHOT],
        timestamp_key=online[TIMESTAMP],
        now=now,
    )
    top = new_targets(assignment_keys=[online[ASSIGNMENTS]], now=now)
    for name, signers in namespaces.items():
        if not signers.keys:
            raise UsageError(f"namespace {name} needs a key")
        threshold = signers.threshold or 1
        top = delegate_namespace(top, name, signers.keys, threshold=threshold, now=now)
    top.signed.version = 1
    documents: dict[str, Document] = {file_name(ROOT, 1): first, file_name(TARGETS, 1): top}
    for name in namespaces:
        documents[file_name(namespace_role(name), 1)] = new_namespace(now=now)
    return Ceremony(root_before=None, targets_before=None, documents=documents)


def draft_root(
    repository: Repository,
    *,
    root: Signers,
    targets: Signers,
    online: Online | None,
    now: datetime,
) -> Ceremony:
    """The next root. ``online``: it names these keys of the distributor from now on.

    New keys for the targets come with the targets signed by them: clients would refuse all of it
    otherwise. Raises: RefusedError, UsageError.
    """
    before = repository.root
    new = before
    changes = {ROOT: root, TARGETS: targets}
    if online is not None:
        changes |= {role: Signers(keys=[online[role]]) for role in (SNAPSHOT, TIMESTAMP)}
    for role, signers in changes.items():
        old = before.signed.roles[role]
        if signers.keys is None and signers.threshold is None:
            continue
        keys = signers.keys or [before.signed.keys[one] for one in old.keyids]
        new = with_keys(new, role, keys, signers.threshold or _kept(old.threshold, keys), now)
        new.signed.version = before.signed.version + 1
    if new is before:
        new = edited(before, expires=now + LONG)
    documents: dict[str, Document] = {file_name(ROOT, new.signed.version): new}
    if targets.keys is not None or targets.threshold is not None:
        again = edited(repository.targets, expires=now + LONG)
        documents[file_name(TARGETS, again.signed.version)] = again
    return _after(repository, documents)


def draft_targets(
    repository: Repository,
    *,
    namespaces: Mapping[str, Signers],
    online: Online | None,
    now: datetime,
) -> Ceremony:
    """The next targets: namespaces given to other keys, with their documents to be signed anew;
    ``online``: assignments are signed by this key of the distributor from now on.

    Raises: RefusedError, UsageError.
    """
    new = repository.targets
    documents: dict[str, Document] = {}
    for name, signers in namespaces.items():
        old = _role_of(repository, name)
        if signers.keys is None and old is None:
            raise UsageError(f"namespace {name} is new: say which keys sign for it")
        held = repository.targets.signed
        keys = signers.keys or [held.get_key(one) for one in old.keyids] if old else signers.keys
        assert keys is not None
        threshold = signers.threshold or _kept(1 if old is None else old.threshold, keys)
        new = delegate_namespace(new, name, keys, threshold=threshold, now=now)
        documents |= _documents(repository, name, keys, threshold, now)
    if online is not None:
        new = delegate_assignments(new, [online[ASSIGNMENTS]], now=now)
    if new is repository.targets:
        new = edited(new, expires=now + LONG)
    new.signed.version = repository.targets.signed.version + 1
    return _after(repository, {file_name(TARGETS, new.signed.version): new, **documents})


def draft_namespace(repository: Repository, namespace: str, *, now: datetime) -> Ceremony:
    """The documents of a namespace as they are, to be signed for another year.

    Raises: NotFoundError.
    """
    role = _role_of(repository, namespace)
    if role is None:
        raise NotFoundError(f"no namespace {namespace} is delegated")
    held = repository.targets.signed
    keys = [held.get_key(one) for one in role.keyids]
    return _after(repository, _documents(repository, namespace, keys, role.threshold, now))


def _documents(
    repository: Repository, namespace: str, keys: Sequence[Key], threshold: int, now: datetime
) -> dict[str, Document]:
    """All documents of a namespace, their next versions, for these keys; its first one where it
    has none yet."""
    role = namespace_role(namespace)
    held = repository.documents(namespace)
    if role not in held:
        return {file_name(role, 1): new_namespace(now=now)}
    again = {name: re_signed(one, keys, threshold, now=now) for name, one in held.items()}
    return {file_name(name, one.signed.version): one for name, one in again.items()}


def _role_of(repository: Repository, namespace: str) -> Any:
    delegations = repository.targets.signed.delegations
    roles = {} if delegations is None else delegations.roles or {}
    return roles.get(namespace_role(namespace))


def _after(repository: Repository, documents: Mapping[str, Document]) -> Ceremony:
    return Ceremony(
        root_before=repository.root, targets_before=repository.targets, documents=documents
    )


def _kept(threshold: int, keys: Sequence[Key]) -> int:
    """A threshold that nobody spoke of stays, and never becomes one that cannot be met."""
    if threshold > len(keys):
        raise UsageError(f"{threshold} of {len(keys)} keys cannot sign: say a threshold as well")
    return threshold


# -- the folder ----------------------------------------------------------------------------------


def write(ceremony: Ceremony, folder: Path, *, replace: bool = False) -> None:
    """Raises: ConflictError (the folder holds something already), UsageError, ResourceError."""
    before = folder / _BEFORE
    try:
        if not replace and folder.exists() and any(folder.iterdir()):
            raise ConflictError(f"{folder} is not empty; a ceremony has a folder of its own")
        before.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    for role, held in ((ROOT, ceremony.root_before), (TARGETS, ceremony.targets_before)):
        if held is not None:
            _write(before / file_name(role, held.signed.version), held)
    for name, document in ceremony.documents.items():
        _write(folder / name, document)


def open_folder(folder: Path) -> Ceremony:
    """Raises: NotFoundError, FormatError, RefusedError (it holds more than what is shown)."""
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder} of a ceremony")
    # The first ceremony follows nothing, and what carries folders may drop an empty one.
    held = _listed(folder / _BEFORE) if (folder / _BEFORE).exists() else []
    before = {parse_file_name(one.name)[0]: _read(one) for one in held}
    documents = {one.name: _read(one) for one in _listed(folder)}
    if not documents:
        raise NotFoundError(f"{folder} holds no metadata to sign")
    check_folder(documents)
    return Ceremony(
        root_before=cast("Metadata[Root] | None", before.get(ROOT)),
        targets_before=cast("Metadata[Targets] | None", before.get(TARGETS)),
        documents=documents,
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if one.suffix == ".json")
    except OSError as error:
        raise explain_os_error(error, folder) from error


def _read(path: Path) -> Document:
    role, version = parse_file_name(path.name)
    kind: Any = Root if role == ROOT else Targets
    document: Document = read(role, _bytes(path), kind)
    if document.signed.version != version:
        raise FormatError(f"{path} holds version {document.signed.version}")
    either: Any = document
    signed_part(role, either)
    return document


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(metadata_bytes_max(parse_file_name(path.name)[0]) + 1)
    except OSError as error:
        raise explain_os_error(error, path) from error


def _write(path: Path, document: Document) -> None:
    with whole_file(path, replace=True) as stream:
        stream.write(_bytes_of(document))


# -- signatures ----------------------------------------------------------------------------------


def _wanted(name: str, by: str, delegator: Document, document: Document) -> Wanted:
    role, _ = parse_file_name(name)
    try:
        found = delegator.signed.get_verification_result(
            role, document.signed_bytes, document.signatures
        )
    except ValueError:
        raise RefusedError(f"{by} does not delegate to {role}") from None
    return Wanted(
        name=name,
        by=by,
        threshold=found.threshold,
        signed=tuple(sorted(found.signed)),
        unsigned=tuple(sorted(found.unsigned)),
    )


def _also_signed(name: str, document: Document, signers: Sequence[Signer]) -> Document:
    role, _ = parse_file_name(name)
    kind: Any = type(document.signed)
    signed: Document = read(role, _bytes_of(document, signers), kind)
    return signed


def _bytes_of(document: Document, signers: Sequence[Signer] = ()) -> bytes:
    either: Metadata[Any] = document
    return sign(either, signers)


def _listed_as(role: str) -> str:
    """Bins are signed by the keys of their namespace."""
    return role if role in (ROOT, TARGETS) else namespace_role(_namespace(role))


def _namespace(role: str) -> str:
    namespace = namespace_of(role)
    if namespace is None:
        raise FormatError(f"{role} is no role that people sign")
    return namespace
