"""A folder of metadata that is looked after by hand: ``edge-agent metadata``.

The same client as the agent's, over any HTTP repository, in the layout that conformance suites
expect: the newest verified file of each role as ``ROLE.json``.
"""

from __future__ import annotations

from pathlib import Path

from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from device_agent.trust.client import TrustedMetadata, size_max
from device_agent.trust.fetcher import GuardedFetcher, Pace
from device_agent.trust.marks import make_way, read_or_none
from edge_sdk.base import NotFoundError

_BY_HTTP = Pace(deadline_s=3600.0)  # also the files that are downloaded
_FACTORY = "factory/root.json"


def http_fetcher() -> FetcherInterface:
    """python-tuf's own, with our limits around it."""
    return GuardedFetcher(Urllib3Fetcher().fetch, size_max=size_max, pace=_BY_HTTP)


class MetadataFolder:
    """``init`` once, then ``refresh`` and ``download`` as often as wanted."""

    def __init__(self, folder: Path, *, files: FileSystem | None = None) -> None:
        self._folder = folder
        self._files = files or FileSystem()

    def init(self, root: bytes) -> None:
        """Takes ``root`` as where trust begins; whether it is one is found out by ``refresh``.

        Raises: OSError.
        """
        for name in (_FACTORY, "root.json"):
            path = self._folder / name
            make_way(self._files, path, below=self._folder)
            durable.write_whole(self._files, path, root)

    def client(
        self, metadata_url: str, fetcher: FetcherInterface, *, target_base_url: str | None = None
    ) -> TrustedMetadata:
        """Raises: NotFoundError where ``init`` is still to be called."""
        root = read_or_none(self._files, self._folder / _FACTORY)
        if root is None:
            raise NotFoundError(f"{self._folder} holds no root: edge-agent metadata init ROOT")
        return TrustedMetadata(
            self._folder,
            root,
            fetcher,
            files=self._files,
            cache=self._folder,
            base_url=metadata_url,
            target_base_url=target_base_url,
        )
