"""Signed metadata over a connection: fetched within limits, put as compare-and-swap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root

from edge_sdk.base import (
    ConflictError,
    FormatError,
    NotFoundError,
    RefusedError,
    UsageError,
    Version,
)
from edge_sdk.fleet.connection import Connection
from edge_sdk.fleet.home import FleetHome
from edge_sdk.fleet.marks import TrustMarks
from edge_sdk.fleet.repository import File, Keys, Repository, now
from edge_sdk.fleet.sign_target import check_signers, sign_target
from edge_sdk.manifest import Manifest
from edge_sdk.protos import metadata_v1_pb2 as wire
from edge_sdk.trust import (
    ASSIGNMENTS,
    ROOT,
    SNAPSHOT,
    TIMESTAMP,
    file_name,
    metadata_bytes_max,
    parse_file_name,
)

_PUT_DEADLINE_S = 120.0  # a thousand bins are verified one by one
_LOST_RACES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineKey:
    """A key that the distributor signs with: ``snapshot``, ``timestamp`` or ``assignments``."""

    role: str
    public: Key
    in_use: bool  # the signed metadata name it


class MetadataClient:
    """The metadata of one distributor. ``marks``: what was seen before; by default those in
    the folder that this machine keeps of fleets."""

    def __init__(self, connection: Connection, marks: TrustMarks | None = None) -> None:
        self._connection = connection
        self._stub = connection.metadata
        self._given = marks

    @property
    def _marks(self) -> TrustMarks:
        return self._given or TrustMarks(FleetHome.default().trust_marks)

    def get(self, name: str) -> bytes:
        """A metadata file by its wire name. Raises: NotFoundError, FormatError (too large)."""
        role, _ = parse_file_name(name)
        limit = metadata_bytes_max(role)
        request = wire.GetRequest(name=name)

        def whole() -> bytes:
            data = bytearray()
            for frame in self._stub.Get(request, timeout=self._connection.patience.deadline_s):
                data += frame.data
                if len(data) > limit:
                    raise FormatError(f"{name} has more than {limit} bytes")
            return bytes(data)

        return self._connection.repeat(whole)

    def put(self, files: Sequence[File]) -> tuple[str, ...]:
        """All of ``files`` or none; the namespaces that nobody believes afterwards.

        Raises: ConflictError where somebody else put the next version first; RefusedError,
        TrustError, FormatError as the distributor judges them.
        """
        request = wire.PutRequest(
            files=[wire.MetadataFile(name=name, data=data) for name, data in files]
        )
        answer = self._connection.repeat(lambda: self._stub.Put(request, timeout=_PUT_DEADLINE_S))
        return tuple(answer.unsigned_roles)

    def online_keys(self) -> tuple[OnlineKey, ...]:
        """Of each role the oldest first."""
        answer = self._connection.repeat(
            lambda: self._stub.OnlineKeys(
                wire.OnlineKeysRequest(), timeout=self._connection.patience.deadline_s
            )
        )
        return tuple(_online_key(one) for one in answer.keys)

    def newest_online(self) -> dict[str, Key]:
        """The distributor's own keys by role, the newest of each. Raises: RefusedError."""
        found = {one.role: one.public for one in self.online_keys()}
        missing = {SNAPSHOT, TIMESTAMP, ASSIGNMENTS} - set(found)
        if missing:
            lacking = ", ".join(sorted(missing))
            raise RefusedError(f"the distributor has no key for {lacking}: edge-distributor keys")
        return found

    def is_signing(self) -> bool:
        """Whether the distributor has signed metadata at all."""
        try:
            self.get(file_name("timestamp", 0))
        except (NotFoundError, UsageError):
            return False  # the second: one of before there was such a service
        return True

    def took(self, files: Sequence[File], roots: Sequence[Metadata[Root]]) -> None:
        """Marks what was put, in the fleet of ``roots``: the distributor cannot deny it."""
        named = (parse_file_name(name) for name, _ in files)
        self._marks.put(roots, {role: version or 0 for role, version in named if role != ROOT})

    def repository(self, keys: Keys, *, replacing_root: bool = False) -> Repository:
        """The newest metadata, verified from the root that ``keys`` trust; ``replacing_root``:
        also where that has expired.

        Raises: TrustError (also where it is older than what was seen here before), RefusedError
        (no root is trusted here, or none is there).
        """
        root = keys.root()
        if root is None:
            raise RefusedError(
                "these keys come with no root to trust: copy root.json from the folder of keys of "
                "somebody who has it, or begin a fleet's first with: edge-fleet keys init"
            )
        return self.verified(root, replacing_root=replacing_root)

    def verified(self, root: bytes, *, replacing_root: bool = False) -> Repository:
        """As ``repository``, from ``root`` on."""
        marks = self._marks
        known = marks.load()
        try:
            repository = Repository(self.get, root, now(), replacing_root=replacing_root)
        except NotFoundError as error:
            raise RefusedError(
                f"the distributor lacks signed metadata ({error.message}); is it the right one?"
            ) from None
        marks.follow(repository, known)
        return repository

    def check_keys(self, keys: Keys, namespace: str) -> None:
        """That ``keys`` can sign in ``namespace``, before anything is made to be signed.

        Raises: as ``repository``; RefusedError (no key for it), UsageError (no passphrase),
        TrustError (a wrong one).
        """
        check_signers(self.repository(keys), keys, namespace)

    def publish(
        self, keys: Keys, manifest: Manifest, document: bytes, floor: Version | None
    ) -> bool:
        """Makes an artifact that is there a target; false where it was one, just so.

        Whoever loses the race to put the next version fetches what won and signs over it.
        """
        for attempt in range(_LOST_RACES_MAX):
            repository = self.repository(keys)
            files = sign_target(repository, keys, manifest, document, floor=floor, at=now())
            if not files:
                return False
            try:
                self.put(files)
            except ConflictError:
                self._connection.pause(min(attempt, 3))
            else:
                self.took(files, [repository.root])
                return True
        raise ConflictError(
            f"{_LOST_RACES_MAX} times another publisher was faster; publish it again"
        )


def _online_key(one: wire.OnlineKey) -> OnlineKey:
    try:
        public = Key.from_dict(one.key_id, json.loads(one.key))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"the key of {one.role} cannot be read: {error}") from None
    return OnlineKey(role=one.role, public=public, in_use=one.in_use)
