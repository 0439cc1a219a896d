"""The keys that the distributor signs with: files of the data folder, or others by URI.

They stand in ``keys/online.json`` with their public halves; a key in a file is named ``file:NAME``
relative to that folder, everything else is a URI of securesystemslib (``hsm:``, ``awskms:``, ...).
Nothing here says which key counts: the signed metadata do. So a new key is added first, and
taken into use when a new root, or new targets, name it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from distributor.config import ONLINE_ROLES
from edge_sdk.base import (
    ConflictError,
    FormatError,
    NotFoundError,
    UsageError,
    explain_os_error,
    sync_folder,
)
from edge_sdk.trust import (
    IN_FOLDER,
    ListedKey,
    Passphrase,
    check_distinct,
    environment_passphrase,
    file_beside,
    open_signer,
    read_key_list,
    write_key_list,
)

_OTHERS = stat.S_IRWXO


def _from_environment(name: str) -> bytes:
    """Nobody sits at a server who could be asked."""
    found = environment_passphrase(name)
    if found is None:
        raise UsageError(f"an online key asks for its {name}; set EDGE_KEY_PASSPHRASE_FILE")
    return found


class OnlineKeys:
    """The keys in ``folder``. Read again for each use: a key added by a command is known at once.

    passphrase: asked by schemes that need one (``edge-key:``, ``hsm:``).
    """

    def __init__(self, folder: Path, passphrase: Passphrase = _from_environment) -> None:
        self._folder = folder
        self._list = folder / "online.json"
        self._passphrase = passphrase
        self._signers: dict[tuple[str, str], Signer] = {}

    def create(self) -> bool:
        """Makes what is missing of one key for each role; false where nothing was.

        Raises: UsageError, ResourceError.
        """
        known = self.all() if self._list.exists() else ()
        missing = [role for role in ONLINE_ROLES if not any(one.role == role for one in known)]
        if missing:
            self._write([*known, *(self._new_file(role) for role in missing)])
        return bool(missing)

    def all(self) -> tuple[ListedKey, ...]:
        """Every key, of each role the oldest first.

        Raises: NotFoundError (there are none), FormatError, UsageError (others may read them).
        """
        try:
            return read_key_list(self._list)
        except NotFoundError:
            raise NotFoundError(
                f"there are no online keys in {self._folder}; put the copy from before in their "
                "place, or make new ones with: edge-distributor keys create"
            ) from None

    def add(self, role: str, *, uri: str | None = None, public: Key | None = None) -> ListedKey:
        """One more key for ``role``: a new file in the folder, or the one that ``uri`` names.

        A URI is tried at once. Raises: UsageError, ConflictError, RefusedError, TrustError.
        """
        if role not in ONLINE_ROLES:
            raise UsageError(f"{role!r} is no online role: {', '.join(ONLINE_ROLES)}")
        if (uri is None) != (public is None):
            raise UsageError("a key elsewhere needs both its URI and its public half")
        known = self.all()
        if uri is None or public is None:
            key = self._new_file(role)
        else:
            key = ListedKey(role=role, uri=uri, public=public)
            if any(one.role == role and one.key_id == key.key_id for one in known):
                raise ConflictError(f"key {key.key_id} is a key of {role} already")
            check_distinct([*(one.public for one in known if one.role == role), public])
            self._open(key)
        self._write([*known, key])
        return key

    def forget(self, key_id: str) -> ListedKey:
        """Takes a key out of the list, and its file away. Raises: NotFoundError."""
        known = self.all()
        gone = next((one for one in known if one.key_id == key_id), None)
        if gone is None:
            raise NotFoundError(f"there is no online key {key_id}; see: edge-distributor keys list")
        self._write([one for one in known if one is not gone])
        if gone.uri.startswith(IN_FOLDER):
            file_beside(self._list, gone.uri).unlink(missing_ok=True)
        return gone

    def signers(self, role: str, key_ids: Collection[str]) -> Sequence[Signer]:
        """Those of the keys named that are ours. Raises: as ``all``, TrustError."""
        return [self._open(one) for one in self.all() if one.role == role and one.key_id in key_ids]

    def _open(self, key: ListedKey) -> Signer:
        kept = self._signers.get((key.uri, key.key_id))
        if kept is None:
            kept = self._signers[key.uri, key.key_id] = self._opened(key)
        return kept

    def _opened(self, key: ListedKey) -> Signer:
        if not key.uri.startswith(IN_FOLDER):
            return open_signer(key.uri, key.public, self._passphrase)
        path = file_beside(self._list, key.uri)
        try:
            if path.stat().st_mode & _OTHERS:
                raise UsageError(f"everybody may read {path}; run: chmod 600 {path}")
            private = load_pem_private_key(path.read_bytes(), None)
            assert isinstance(key.public, SSlibKey)
            return CryptoSigner(private, key.public)
        except OSError as error:
            raise explain_os_error(error, path) from error
        except (ValueError, TypeError) as error:
            raise FormatError(f"{path} is not the private half of key {key.key_id}") from error

    def _new_file(self, role: str) -> ListedKey:
        """A new Ed25519 key in a file that only its owner may read."""
        signer = CryptoSigner.generate_ed25519()
        public = signer.public_key
        name = f"{role}-{public.keyid[:12]}.pem"
        path = self._folder / name
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(signer.private_bytes)
                stream.flush()
                os.fsync(stream.fileno())
            sync_folder(self._folder)
        except OSError as error:
            raise explain_os_error(error, path) from error
        return ListedKey(role=role, uri=f"{IN_FOLDER}{name}", public=public)

    def _write(self, keys: Collection[ListedKey]) -> None:
        write_key_list(self._list, keys)
