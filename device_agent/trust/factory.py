"""The factory root: the one file that all trust of a device begins with.

Loads python-tuf only when it is asked for: the processes that only serve have no use for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import TrustError

if TYPE_CHECKING:
    from device_agent.trust.fetcher import MetadataSource
    from device_agent.trust.gate import Gate

_NAMES = ("root.json", "root.copy.json")
ROOT_MISSING = (
    "nothing new is believed until one is given: edge-agent enrol --token-file FILE, with a token "
    "that was made since 'edge-fleet keys init', or start the agent with --root FILE"
)


def keep_factory_root(files: FileSystem, folder: Path, root: bytes) -> None:
    """Durably, twice, in ``folder`` (``<state>/trust``). An older root of the same fleet than
    the one that is there changes nothing.

    Raises: TrustError (it is no root, or another fleet's), OSError.
    """
    if all(_read(files, folder / name) == root for name in _NAMES):
        return
    from device_agent.trust.marks import make_way

    if not _is_root(root):
        raise TrustError("the factory root is no root metadata that its own keys signed")
    known = read_factory_root(files, folder)
    if known and known != root:
        if _follows(root, known):
            root = known
        elif not _follows(known, root):
            raise TrustError(
                f"this device believes another root than the one given: remove {folder} to make "
                "it another fleet's"
            )
    for name in _NAMES:
        make_way(files, folder / name, below=folder)
        durable.write_whole(files, folder / name, root)


def read_factory_root(files: FileSystem, folder: Path) -> bytes | None:
    """The copy that is whole; None where there never was one; nothing (``b""``) where both are
    damaged: then nothing is believed until it is given again."""
    if not any(files.exists(folder / name) for name in _NAMES):
        return None
    copies = (_read(files, folder / name) for name in _NAMES)
    return next((copy for copy in copies if copy is not None and _is_root(copy)), b"")


def open_gate(files: FileSystem, folder: Path, source: MetadataSource) -> Gate:
    """Without a factory root it lets nothing through, and says so; one that comes later is
    found."""
    from device_agent.trust.client import TrustedMetadata, size_max
    from device_agent.trust.fetcher import GuardedFetcher, from_source
    from device_agent.trust.gate import Gate

    def root() -> bytes:
        return read_factory_root(files, folder) or b""

    fetcher = GuardedFetcher(from_source(source), size_max=size_max)
    return Gate(TrustedMetadata(folder, root(), fetcher, files=files, root_later=root))


def _follows(old: bytes, new: bytes) -> bool:
    """Whether ``new`` is a later root by the word of those who signed ``old``."""
    from tuf.api.metadata import Root

    from device_agent.trust.marks import signed_by, trusted_root

    said = signed_by(trusted_root(old), Root, new)
    return said is not None and said.version > trusted_root(old).version


def _read(files: FileSystem, path: Path) -> bytes | None:
    try:
        return files.read(path)
    except OSError:
        return None


def _is_root(data: bytes) -> bool:
    from tuf.api.exceptions import RepositoryError

    from device_agent.trust.marks import trusted_root

    try:
        trusted_root(data)
    except RepositoryError:
        return False
    return True
