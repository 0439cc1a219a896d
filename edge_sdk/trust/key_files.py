"""Private keys in encrypted files, and keys anywhere else, by URI.

securesystemslib reads only unencrypted key files (``file2:``). Ours (``edge-key:PATH``) keep
PKCS#8 under AES-256-GCM, with a key that scrypt (RFC 7914) makes of a passphrase. Hardware and
cloud keys are securesystemslib's own schemes (``hsm:``, ``awskms:``, ...): only the URI differs.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from securesystemslib.exceptions import KeyMismatchError, UnsupportedLibraryError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    Key,
    SecretsHandler,
    Signer,
    SSlibKey,
)

from edge_sdk.base import (
    ConflictError,
    FormatError,
    RefusedError,
    TrustError,
    UsageError,
    explain_os_error,
    refuse_open_file,
    sync_folder,
)

SCHEME = "edge-key"
_KIND = "edge-key/1"
WORK = 1 << 17  # scrypt's N: 128 MiB and about half a second for each guess
_WORK_MAX = 1 << 20  # a file must not take a gigabyte of memory to be refused
_BLOCK, _PARALLEL = 8, 1  # scrypt's r and p
_SALT_BYTES, _NONCE_BYTES = 16, 12
_FILE_BYTES_MAX = 16 << 10


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a key file says, as JSON; ``sealed`` is nonce and ciphertext."""

    kind: str = _KIND
    public: str  # 32 bytes as hex, as securesystemslib has it
    work: int
    salt: bytes
    sealed: bytes

    def bound(self) -> bytes:
        """What the ciphertext is bound to: everything else in the file."""
        return msgspec.json.encode([self.kind, self.public, self.work, self.salt])


def create_key_file(path: Path, passphrase: bytes, *, work: int = WORK) -> SSlibKey:
    """A new Ed25519 key in a new file that only its owner can read.

    Raises: ConflictError (the file is there), UsageError (empty passphrase, no such folder).
    """
    if not passphrase:
        raise UsageError("a key file needs a passphrase that is not empty")
    private = Ed25519PrivateKey.generate()
    plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    key = SSlibKey.from_crypto(private.public_key())
    public, salt = str(key.keyval["public"]), secrets.token_bytes(_SALT_BYTES)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    head = KeyFile(public=public, work=work, salt=salt, sealed=b"")
    sealed = AESGCM(_stretched(passphrase, salt, work)).encrypt(nonce, plain, head.bound())
    whole = msgspec.structs.replace(head, sealed=nonce + sealed)
    _write_new(path, msgspec.json.encode(whole))
    return key


def open_key_file(path: Path, passphrase: bytes) -> CryptoSigner:
    """Raises: FormatError (no key file), TrustError (wrong passphrase), NotFoundError,
    RefusedError (others can read it, and guess at its passphrase)."""
    refuse_open_file(path)
    kept = _read(path)
    nonce, sealed = kept.sealed[:_NONCE_BYTES], kept.sealed[_NONCE_BYTES:]
    try:
        plain = AESGCM(_stretched(passphrase, kept.salt, kept.work)).decrypt(
            nonce, sealed, kept.bound()
        )
        private = load_der_private_key(plain, None)
    except InvalidTag:
        raise TrustError(f"the passphrase does not open {path}, or the file was changed") from None
    except (ValueError, UnsupportedAlgorithm):
        raise FormatError(f"{path} is no key file: what it seals is no private key") from None
    assert isinstance(private, Ed25519PrivateKey)
    return CryptoSigner(private)


def public_of(path: Path) -> SSlibKey:
    """The public half of a key file, without its passphrase. Raises: FormatError."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(_read(path).public))
    except ValueError:
        raise FormatError(f"{path} is no key file: its public key cannot be read") from None
    return SSlibKey.from_crypto(public)


def uri_of(path: Path) -> str:
    """The URI of a key file."""
    return f"{SCHEME}:{quote(str(path.absolute()))}"


def public_at(uri: str) -> SSlibKey | None:
    """The public half that a key file's URI leads to; None: another scheme's is elsewhere.

    Raises: FormatError, NotFoundError.
    """
    scheme, _, path = uri.partition(":")
    return public_of(Path(unquote(path))) if scheme == SCHEME else None


def open_signer(uri: str, public: Key, passphrase: Callable[[str], bytes]) -> Signer:
    """A signer of whatever scheme ``uri`` names; ``passphrase`` is asked for by name if needed.

    Raises: TrustError (not the private half of ``public``, wrong passphrase), UsageError
    (unknown scheme), FormatError, NotFoundError.
    """

    def ask(name: str) -> str:
        return passphrase(name).decode()

    try:
        return Signer.from_priv_key_uri(uri, public, ask)
    except FileNotFoundError as error:
        raise UsageError(f"key {uri} is not there: {error.strerror or 'no such file'}") from None
    except UnsupportedLibraryError as error:
        raise UsageError(f"key {uri} needs a library that is not installed: {error}") from None
    except (ValueError, TypeError, OSError, UnsupportedAlgorithm) as error:
        raise UsageError(f"key {uri} cannot be used: {error}") from None


def check_distinct(keys: Iterable[Key]) -> None:
    """Refuses one public key under two key ids: clients count a threshold by key ids.

    Raises: RefusedError.
    """
    seen: dict[str, str] = {}
    for key in keys:
        held = _public_bytes(key)
        if held in seen:
            raise RefusedError(
                f"keys {seen[held]} and {key.keyid} are one and the same: it would count twice"
            )
        seen[held] = key.keyid


def _public_bytes(key: Key) -> str:
    """The same for every spelling of a key: PEM has line ends of choice, hex either case."""
    public = str(key.to_dict()["keyval"].get("public", key.keyid))
    bare = "".join(public.split())
    return bare if bare.startswith("-----") else bare.lower()


class _KeyFileSigner(CryptoSigner):
    """securesystemslib's door to our key files."""

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> CryptoSigner:
        scheme, _, path = priv_key_uri.partition(":")
        if scheme != SCHEME:
            raise ValueError(f"not a URI of {SCHEME}: {priv_key_uri}")
        if secrets_handler is None:
            raise ValueError(f"{priv_key_uri} needs a passphrase")
        signer = open_key_file(Path(unquote(path)), secrets_handler("passphrase").encode())
        try:
            # Under the id by which others know it.
            return CryptoSigner(signer._private_key, public_key)  # type: ignore[arg-type]
        except KeyMismatchError:
            raise TrustError(
                f"{priv_key_uri} is not the private half of key {public_key.keyid}"
            ) from None


SIGNER_FOR_URI_SCHEME[SCHEME] = _KeyFileSigner


def _read(path: Path) -> KeyFile:
    try:
        with path.open("rb") as stream:
            data = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        kept = msgspec.json.decode(data, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is no key file: {error}") from None
    power_of_two = kept.work > 1 and kept.work & (kept.work - 1) == 0
    if kept.kind != _KIND or not power_of_two or kept.work > _WORK_MAX:
        raise FormatError(f"{path} is no key file that this release reads")
    return kept


def _stretched(passphrase: bytes, salt: bytes, work: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=work, r=_BLOCK, p=_PARALLEL).derive(passphrase)


def _write_new(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConflictError(f"{path} is there already; a key is never replaced") from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise explain_os_error(error, path) from error
