"""python-tuf's client as the agent uses it: to look for something newer, never to start.

It is made anew for each look, always from the factory root, over a cache into which the marks
were put back. What it writes goes through the store's file layer, and is marked first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Root, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from device_agent.trust import marks as marked
from device_agent.trust.explain import NO_ROOM, disk_or_trust, explain
from device_agent.trust.factory import ROOT_MISSING
from device_agent.trust.marks import Marks
from device_agent.trust.verified import Verified
from edge_sdk.base import NotFoundError, TrustError
from edge_sdk.trust import metadata_bytes_max, signed_at

ROOT_ROTATIONS_MAX = 4096  # the client's own 256 makes it stop there, and say nothing
_BASE = "metadata/"


def size_max(name: str) -> int:
    """The largest size of a file by its name on the wire; delegated roles are targets."""
    version, _, role = name.removesuffix(".json").partition(".")
    return metadata_bytes_max(role or version)


def config() -> UpdaterConfig:
    return UpdaterConfig(
        max_root_rotations=ROOT_ROTATIONS_MAX,
        root_max_length=metadata_bytes_max("root"),
        timestamp_max_length=metadata_bytes_max("timestamp"),
        snapshot_max_length=metadata_bytes_max("snapshot"),
        targets_max_length=metadata_bytes_max("targets"),
    )


class Client(Updater):
    """Differs from python-tuf's where files are written, and in whose clock it believes.

    It overrides three methods that python-tuf does not promise to keep
    (tests/device_agent/trust/test_client.py says so should one go away).
    """

    def __init__(
        self,
        cache: Path,
        *,
        base_url: str,
        fetcher: FetcherInterface,
        bootstrap: bytes,
        files: FileSystem,
        marks: Marks,
        now: datetime,
        target_base_url: str | None = None,
    ) -> None:
        """Raises: OSError (it writes the root at once), RepositoryError."""
        self._cache = cache
        self._files = files
        self._marks = marks
        super().__init__(
            str(cache),
            base_url,
            target_base_url=target_base_url,
            fetcher=fetcher,
            config=config(),
            bootstrap=bootstrap,
        )
        self._trusted_set.reference_time = now

    # -- what is verified, for verified.py -----------------------------------------------

    @property
    def root(self) -> Root:
        return self._trusted_set.root

    @property
    def now(self) -> datetime:
        """The clock's time, or the last signed time where that is later."""
        return self._trusted_set.reference_time

    def loaded(self) -> dict[str, Targets]:
        """Every targets role that was verified so far, by its name."""
        found = {one: self._trusted_set[one] for one in self._trusted_set._trusted_set}
        return {name: role for name, role in found.items() if isinstance(role, Targets)}

    # -- python-tuf's own work, changed --------------------------------------------------

    def _persist_file(self, filename: str, data: bytes) -> None:
        """Called with what was verified, and with nothing else: the mark comes first."""
        path = Path(filename)
        if marked.is_marked(path.name):
            self._marks.keep(path.name, data)
        if marked.read_or_none(self._files, path) != data:
            durable.write_whole(self._files, path, data)

    def _update_root_symlink(self) -> None:
        """A file instead of a link: it costs no window without one, and vfat has no links."""
        history = self._cache / "root_history" / f"{self.root.version}.root.json"
        data = self._files.read(history)
        path = self._cache / "root.json"
        if marked.read_or_none(self._files, path) != data:
            marked.make_way(self._files, path, below=self._cache)
            durable.write_whole(self._files, path, data)

    def _load_timestamp(self) -> None:
        """The newest root is known now: only what its timestamp key signed tells the time."""
        known = marked.read_or_none(self._files, self._cache / "timestamp.json")
        if known is not None:
            self._raise_clock(marked.signed_by(self.root, Timestamp, known))
        super()._load_timestamp()
        self._raise_clock(self._trusted_set.timestamp)

    def _raise_clock(self, timestamp: Timestamp | None) -> None:
        said = None if timestamp is None else signed_at(timestamp)
        if said is not None:
            self._trusted_set.reference_time = max(self.now, said)


class TrustedMetadata:
    """Looks for newer metadata and answers with what is verified. One call at a time.

    ``folder`` (``<state>/trust``) holds cache and marks; ``factory_root`` is where all trust
    begins; where there is none, ``root_later`` is asked at each look.
    """

    def __init__(
        self,
        folder: Path,
        factory_root: bytes,
        fetcher: FetcherInterface,
        *,
        files: FileSystem | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        cache: Path | None = None,
        base_url: str = _BASE,
        target_base_url: str | None = None,
        root_later: Callable[[], bytes] = bytes,
    ) -> None:
        self._folder = folder
        self._cache = cache or folder / "metadata"
        self._factory_root = factory_root
        self._root_later = root_later
        self._fetcher = fetcher
        self._files = files or FileSystem()
        self.clock = clock
        self._marks = Marks(self._files, folder / "marks")
        self._urls = (base_url, target_base_url)

    def refresh(self) -> Verified:
        """Everything from the root to the targets, newer or as it was.

        Raises: TrustError (what is served is not what the right people signed, or older than
        what was seen, or expired), UnavailableError, ResourceError (disk full or read-only).
        """
        try:
            client = self._attempt()
        except (RepositoryError, DownloadError) as error:
            raise explain(error) from error
        except OSError as error:
            raise disk_or_trust(error) from error
        return Verified(client)

    def download(self, path: str, folder: Path) -> Path:
        """The target's file, in ``folder``; not fetched again where it is there already.

        Raises: as ``refresh``; NotFoundError where nobody signed such a target.
        """
        try:
            client = self._attempt()
            target = client.get_targetinfo(path)
            if target is None:
                raise NotFoundError(f"there is no target {path!r}")
            file = str(folder / quote(path, ""))
            held = client.find_cached_target(target, file)
            return Path(held or client.download_target(target, file))
        except (RepositoryError, DownloadError) as error:
            raise explain(error) from error
        except OSError as error:
            raise disk_or_trust(error) from error

    def _attempt(self) -> Client:
        self._factory_root = self._factory_root or self._root_later()
        if not self._factory_root:
            raise TrustError(
                f"no whole factory root is on this device: {ROOT_MISSING}", check="factory root"
            )
        try:
            return self._look()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            # Something else than files lies in the cache (a folder in place of one has been
            # seen to brick it for good): begin anew from the marks.
            for name in self._files.names(self._cache):
                if name == "root_history" or name.endswith(".json"):
                    marked.remove_tree(self._files, self._cache / name)
            return self._look()

    def _look(self) -> Client:
        marked.make_way(self._files, self._cache / "root_history" / "x", below=self._folder)
        self.put_back(self._marks, self._files, self._cache, self._factory_root)
        base_url, target_base_url = self._urls
        client = Client(
            self._cache,
            base_url=base_url,
            target_base_url=target_base_url,
            fetcher=self._fetcher,
            bootstrap=self._factory_root,
            files=self._files,
            marks=self._marks,
            now=self.clock(),
        )
        client.refresh()
        return client

    put_back = staticmethod(marked.put_back)
