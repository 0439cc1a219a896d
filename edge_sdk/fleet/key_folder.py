"""A folder of a person's or a pipeline's keys: encrypted files, or hardware and clouds by URI.

``keys.json`` lists them by role; ``root.json`` is the root that this person trusts, from which
everything that a distributor serves is verified.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signer

from edge_sdk.base import (
    ConflictError,
    NotFoundError,
    TrustError,
    UsageError,
    explain_os_error,
    make_private_folder,
    whole_file,
)
from edge_sdk.trust import (
    IN_FOLDER,
    ROOT_BYTES_MAX,
    ListedKey,
    Passphrase,
    check_distinct,
    create_key_file,
    environment_passphrase,
    file_beside,
    open_signer,
    read_key_list,
    uri_of,
    write_key_list,
)
from edge_sdk.trust.key_files import WORK

_TRIAL = b"edge-fleet keys add"


def passphrase_from_environment(name: str) -> bytes:
    """For pipelines. Raises: UsageError where EDGE_KEY_PASSPHRASE and _FILE are not set."""
    found = environment_passphrase(name)
    if found is None:
        raise UsageError(
            f"the {name} is needed: set EDGE_KEY_PASSPHRASE_FILE or EDGE_KEY_PASSPHRASE"
        )
    return found


class KeyFolder:
    """Keys by role: ``root``, ``targets``, ``ns_team``, ...

    passphrase: asked at most once for all files; ``work`` is scrypt's cost of new ones.
    """

    def __init__(
        self,
        folder: Path,
        passphrase: Passphrase = passphrase_from_environment,
        *,
        work: int = WORK,
    ) -> None:
        self.folder = folder
        self._list = folder / "keys.json"
        self._root = folder / "root.json"
        self._ask = passphrase
        self._work = work
        self._known: bytes | None = None
        self._signers: dict[tuple[str, str], Signer] = {}

    def all(self) -> tuple[ListedKey, ...]:
        """Every key here. Raises: NotFoundError, FormatError."""
        try:
            return read_key_list(self._list)
        except NotFoundError:
            raise NotFoundError(
                f"there are no keys in {self.folder}; make some with: edge-fleet keys init"
            ) from None

    def exists(self) -> bool:
        return self._list.exists()

    def public(self, role: str) -> tuple[Key, ...]:
        """The public halves of the keys of ``role``."""
        return tuple(one.public for one in self.all() if one.role == role)

    def create(self, role: str, name: str | None = None) -> ListedKey:
        """A new key for ``role`` in an encrypted file of this folder.

        Raises: ConflictError (there is such a file), UsageError, FormatError (no name of a file).
        """
        name = f"{name or role}.key"
        # Nothing is made, nor asked for, where the list could not hold it.
        file_beside(self._list, f"{IN_FOLDER}{name}")
        passphrase = self._passphrase("passphrase")
        self._make_folder()
        public = create_key_file(self.folder / name, passphrase, work=self._work)
        return self._add(ListedKey(role=role, uri=f"{IN_FOLDER}{name}", public=public))

    def add(self, role: str, uri: str, public: Key) -> ListedKey:
        """A key that is elsewhere already; it is tried at once.

        Raises: ConflictError, RefusedError (it is here under another id), TrustError, UsageError.
        """
        self._make_folder()
        key = ListedKey(role=role, uri=uri, public=public)
        try:
            public.verify_signature(self._open(key).sign(_TRIAL), _TRIAL)
        except UnverifiedSignatureError:
            raise TrustError(f"what {uri} signs is not of the public key given") from None
        return self._add(key)

    def signers(self, role: str, key_ids: Collection[str]) -> list[Signer]:
        """Those of the keys named that are here. Raises: TrustError (wrong passphrase), ..."""
        return [self._open(one) for one in self.all() if one.role == role and one.key_id in key_ids]

    def root(self) -> bytes | None:
        """The root that is trusted here; None where none is yet. Raises: FormatError."""
        try:
            with self._root.open("rb") as stream:
                return stream.read(ROOT_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain_os_error(error, self._root) from error

    def trust_root(self, root: bytes) -> Path:
        """Keeps the root that everything is verified from; its file."""
        with whole_file(self._root, replace=True) as stream:
            stream.write(root)
        return self._root

    def _open(self, key: ListedKey) -> Signer:
        kept = self._signers.get((key.uri, key.key_id))
        if kept is None:
            uri = key.uri
            if uri.startswith(IN_FOLDER):
                uri = uri_of(file_beside(self._list, uri))
            kept = open_signer(uri, key.public, self._passphrase)
            self._signers[key.uri, key.key_id] = kept
        return kept

    def _passphrase(self, name: str) -> bytes:
        if self._known is None:
            self._known = self._ask(name)
        return self._known

    def _add(self, key: ListedKey) -> ListedKey:
        known = self.all() if self.exists() else ()
        if any(one.role == key.role and one.key_id == key.key_id for one in known):
            raise ConflictError(f"key {key.key_id} is a key of {key.role} already")
        check_distinct([*(one.public for one in known if one.role == key.role), key.public])
        write_key_list(self._list, [*known, key])
        return key

    def _make_folder(self) -> None:
        make_private_folder(self.folder)
