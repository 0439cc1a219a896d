"""Manifests of held artifacts: ``artifacts/<artifact>.json``, exactly the manifest's bytes."""

from __future__ import annotations

from pathlib import Path

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import Digest, NotFoundError, ProofError
from edge_sdk.manifest import Manifest, decode_manifest

_SUFFIX = ".json"


class Artifacts:
    """Which artifacts are described here; a described one may still lack its files."""

    def __init__(self, files: FileSystem, folder: Path) -> None:
        self._files = files
        self._folder = folder

    def path(self, artifact: Digest) -> Path:
        return self._folder / f"{artifact}{_SUFFIX}"

    def put(self, artifact: Digest, manifest: bytes) -> Manifest:
        """Keeps a manifest that has the promised digest. Raises: ProofError, FormatError."""
        found = Digest.of(manifest)
        if found != artifact:
            raise ProofError(
                f"the manifest sent for artifact {artifact.short} has digest {found.short}",
                wanted=str(artifact),
                got=str(found),
            )
        decoded = decode_manifest(manifest)
        path = self.path(artifact)
        if not self._files.exists(path) or self._files.read(path) != manifest:
            durable.write_whole(self._files, path, manifest)
        return decoded

    def get(self, artifact: Digest) -> Manifest:
        """Proved against its name on every read. Raises: NotFoundError, ProofError."""
        path = self.path(artifact)
        try:
            data = self._files.read(path)
        except FileNotFoundError:
            raise NotFoundError(f"artifact {artifact.short} is not held here") from None
        if Digest.of(data) != artifact:
            raise ProofError(f"the manifest {path} was changed on this device", path=str(path))
        return decode_manifest(data)

    def all(self) -> tuple[Digest, ...]:
        return tuple(self._files.digests(self._folder, suffix=_SUFFIX))

    def remove(self, artifact: Digest) -> None:
        durable.remove(self._files, self.path(artifact))
