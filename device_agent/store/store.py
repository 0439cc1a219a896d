"""The device's store as a whole. Only the updater writes; inference opens it to read."""

from __future__ import annotations

from pathlib import Path

from device_agent.errors import StateError
from device_agent.store import durable
from device_agent.store.artifacts import Artifacts
from device_agent.store.blobs import Blobs
from device_agent.store.filesystem import FileSystem
from device_agent.store.slots import Slot, Slots
from device_agent.store.trees import Trees
from edge_sdk.base import Digest, EdgeError, ProofError
from edge_sdk.manifest import Manifest

FORMAT = 1
_FORMATS_READ = (0, 1, 2)  # one release older and newer: a system that was rolled back starts
_FOLDERS = ("blobs", "trees", "partial", "artifacts", "slots")


class Store:
    """Opens what lies at ``root``; ``create`` makes it first.

    Reading needs nothing but the four calls ``slots``, ``manifest``, ``tree`` and ``prove``.
    """

    def __init__(self, root: Path, *, files: FileSystem | None = None) -> None:
        self.root = root
        self.files = files or FileSystem()
        self.blobs = Blobs(self.files, root / "blobs")
        self.trees = Trees(self.files, root / "trees", self.blobs)
        self.artifacts = Artifacts(self.files, root / "artifacts")
        self.slot_files = Slots(self.files, root / "slots")
        self.partial_folder = root / "partial"
        self.journal_path = root / "journal"
        self.assignment_path = root / "assignment"

    @classmethod
    def create(cls, root: Path, *, files: FileSystem | None = None) -> Store:
        """Makes the folders where they are missing and checks the format number.

        Raises: StateError (kept by a release too far from this one).
        """
        store = cls(root, files=files)
        number = root / "FORMAT"
        if store.files.exists(number):
            store.check_format()  # before anything is made in a folder that is not ours
        for folder in (root, *(root / name for name in _FOLDERS)):
            durable.make_folder(store.files, folder)
        if not store.files.exists(number):
            durable.write_whole(store.files, number, f"{FORMAT}\n".encode())
        store.check_format()
        return store

    def check_format(self) -> None:
        """Raises: StateError."""
        path = self.root / "FORMAT"
        try:
            kept = int(self.files.read(path))
        except (OSError, ValueError):
            raise StateError(
                f"{path} holds no format number; is {self.root} an agent's folder?"
            ) from None
        if kept not in _FORMATS_READ:
            raise StateError(
                f"{self.root} was written in format {kept}; this release reads {_FORMATS_READ}: "
                "start the release that wrote it, or give an empty folder"
            )

    # -- what inference uses -------------------------------------------------------------

    def slots(self) -> tuple[Slot, ...]:
        """Sorted by model."""
        return self.slot_files.all()

    def manifest(self, artifact: Digest) -> Manifest:
        """Raises: NotFoundError, ProofError."""
        return self.artifacts.get(artifact)

    def tree(self, artifact: Digest) -> Path:
        """The folder with the artifact's files under their own names."""
        return self.trees.path(artifact)

    def prove(self, artifact: Digest) -> None:
        """Reads every file of the artifact's tree.

        Raises: ProofError (fact ``path``); OSError where something else than a file is at
        fault, so that nothing was found out.
        """
        try:
            manifest = self.artifacts.get(artifact)
        except ProofError:
            raise
        except EdgeError as error:
            path = self.artifacts.path(artifact)
            raise ProofError(f"{path}: {error.message}", path=str(path)) from None
        self.trees.prove(artifact, manifest)

    # -- what the updater asks -----------------------------------------------------------

    def is_held(self, artifact: Digest) -> bool:
        """Described, with every file there as a blob: usable as a source, or to serve."""
        try:
            manifest = self.artifacts.get(artifact)
        except EdgeError:
            return False
        return all(self.blobs.has(entry.digest) for entry in manifest.files)

    def held(self) -> tuple[Digest, ...]:
        return tuple(artifact for artifact in self.artifacts.all() if self.is_held(artifact))

    def rotten_files(self, artifact: Digest) -> tuple[Digest, ...]:
        """Reads every blob of an artifact again; those that do not prove. Raises: OSError."""
        files = dict.fromkeys(entry.digest for entry in self.manifest(artifact).files)
        return tuple(digest for digest in files if self.blobs.is_rotten(digest))
