"""The client of ``edge-agent metadata`` in this process, in front of a simulated repository."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata

from device_agent.trust.client import TrustedMetadata, size_max
from device_agent.trust.fetcher import GuardedFetcher
from device_agent.trust.metadata_folder import MetadataFolder
from edge_sdk.base import EdgeError
from tests.support.tuf_repository import (
    METADATA_URL,
    TARGETS_URL,
    Repository,
    RepositoryFetcher,
    days,
)
from tests.support.unsynced_files import UnsyncedFiles


class ClientRig:
    """A device's metadata folder. ``at`` days from now is what its clock shows."""

    def __init__(self, folder: Path, repository: Repository, *, init: bool = True) -> None:
        self.folder = folder / "metadata"
        self.downloads = folder / "downloads"
        self.folder.mkdir(parents=True)
        self.downloads.mkdir()
        self.repository = repository
        self.at: float = 0.0
        self._kept = MetadataFolder(self.folder, files=UnsyncedFiles())
        if init:
            self.init(repository.served["1.root.json"])

    def init(self, root: bytes) -> None:
        self._kept.init(root)

    def _client(self) -> TrustedMetadata:
        served = RepositoryFetcher(self.repository)
        fetcher = GuardedFetcher(served.fetch, size_max=size_max)
        client = self._kept.client(METADATA_URL, fetcher, target_base_url=TARGETS_URL)
        client.clock = self._now
        return client

    def _now(self) -> datetime:
        return days(self.at)

    def refresh(self) -> None:
        """Raises what the client does; ``repository.asked`` is of this refresh alone."""
        self.repository.asked.clear()
        self._client().refresh()

    def refused(self) -> str:
        """The check that refuses what the repository serves; empty: none does."""
        try:
            self.refresh()
        except EdgeError as error:
            return str(error.facts.get("check", error))
        return ""

    def download(self, path: str) -> bytes | None:
        """What was downloaded; None where that was refused."""
        self.repository.asked.clear()
        try:
            return self._client().download(path, self.downloads).read_bytes()
        except EdgeError:
            return None

    def downloaded(self) -> list[bytes]:
        """Every file there is, the newest last."""
        files = sorted(self.downloads.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_bytes() for path in files]

    def trusted(self) -> dict[str, int]:
        """The version of each role that the folder holds."""
        return {
            path.name.removesuffix(".json"): Metadata.from_bytes(path.read_bytes()).signed.version
            for path in self.folder.glob("*.json")
        }

    def kept(self, role: str) -> bytes:
        return (self.folder / f"{role}.json").read_bytes()
