"""Trees: an artifact's files under their own names, hard links to blobs.

Engines and applications see only these: ONNX with external data does not load otherwise.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.store import durable
from device_agent.store.blobs import Blobs, prove_file
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import Digest, NotFoundError
from edge_sdk.manifest import Manifest


class Trees:
    """The folder ``trees/<artifact>/``."""

    def __init__(self, files: FileSystem, folder: Path, blobs: Blobs) -> None:
        self._files = files
        self._folder = folder
        self._blobs = blobs

    def path(self, artifact: Digest) -> Path:
        return self._folder / str(artifact)

    def all(self) -> tuple[Digest, ...]:
        return tuple(self._files.digests(self._folder))

    def leftovers(self) -> tuple[Path, ...]:
        held = {str(artifact) for artifact in self.all()}
        names = self._files.names(self._folder)
        return tuple(self._folder / name for name in names if name not in held)

    def is_whole(self, artifact: Digest, manifest: Manifest) -> bool:
        """Every file is there and is the blob's own inode; says nothing about content."""
        root = self.path(artifact)
        for entry in manifest.files:
            path, blob = root / entry.path, self._blobs.path(entry.digest)
            try:
                if self._files.inode(path) != self._files.inode(blob):
                    return False
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def build(self, artifact: Digest, manifest: Manifest) -> Path:
        """Links all files under a temporary name, then renames: a tree is whole or absent.

        A tree that is there but not whole (a blob was repaired) is mended file by file, so
        that what an application holds open stays valid. Raises: NotFoundError.
        """
        root = self.path(artifact)
        if self._files.is_folder(root):
            self._mend(root, manifest)
            return root
        temporary = root.with_name(root.name + durable.TEMPORARY_SUFFIX)
        self.remove_folder(temporary)
        self._files.make_folder(temporary)
        for folder in _folders(manifest):
            self._files.make_folder(temporary / folder)
        for entry in manifest.files:
            self._link(entry.digest, temporary / entry.path)
        for folder in reversed(_folders(manifest)):
            self._files.sync_folder(temporary / folder)
        self._files.sync_folder(temporary)
        durable.place_folder(self._files, temporary, root)
        return root

    def prove(self, artifact: Digest, manifest: Manifest) -> None:
        """Reads every file under its own name.

        Raises: ProofError with the fact ``path``; OSError (nothing was found out).
        """
        root = self.path(artifact)
        for entry in manifest.files:
            prove_file(self._files, root / entry.path, entry.digest)

    def remove(self, artifact: Digest) -> None:
        """Renamed first, so that an interrupted removal never leaves half a tree."""
        root = self.path(artifact)
        if self._files.is_folder(root):
            doomed = root.with_name(root.name + durable.TEMPORARY_SUFFIX)
            self.remove_folder(doomed)
            durable.place_folder(self._files, root, doomed)
            self.remove_folder(doomed)

    def remove_folder(self, folder: Path) -> None:
        if not self._files.is_folder(folder):
            return
        waiting, emptied = [folder], []
        while waiting:
            one = waiting.pop()
            emptied.append(one)
            for name in self._files.names(one):
                path = one / name
                if self._files.is_folder(path):
                    waiting.append(path)
                else:
                    self._files.unlink(path)
        for one in reversed(emptied):
            self._files.remove_folder(one)

    def _mend(self, root: Path, manifest: Manifest) -> None:
        for folder in _folders(manifest):
            durable.make_folder(self._files, root / folder)
        for entry in manifest.files:
            path = root / entry.path
            blob = self._blobs.path(entry.digest)
            linked = self._files.exists(path) and self._files.exists(blob)
            if linked and self._files.inode(path) == self._files.inode(blob):
                continue
            # Beside the tree, not in it: any name in there may be one of the artifact's.
            temporary = root.with_name(f"{root.name}.mend{durable.TEMPORARY_SUFFIX}")
            self._files.unlink(temporary)
            self._link(entry.digest, temporary)
            durable.place_folder(self._files, temporary, path)

    def _link(self, digest: Digest, path: Path) -> None:
        try:
            self._files.link(self._blobs.path(digest), path)
        except FileNotFoundError:
            raise NotFoundError(f"file {digest.short} for {path.name} is not held here") from None


def _folders(manifest: Manifest) -> list[str]:
    """Every folder that the files need, parents first."""
    needed: set[str] = set()
    for entry in manifest.files:
        parts = entry.path.split("/")[:-1]
        needed.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return sorted(needed)
