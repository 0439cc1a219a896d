"""The gate: what may be installed, from the factory root to the bytes of a manifest.

An assignment has to be signed by a key that the verified targets name for it, and each artifact
of it by the keys that answer for its namespace. Whoever holds the distributor chooses among what
publishers signed, and nothing else.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuf.api.metadata import TargetFile, Targets

from device_agent.trust.assignment import accept
from device_agent.trust.client import TrustedMetadata
from device_agent.trust.floors import raised
from device_agent.trust.verified import Verified
from edge_sdk.base import Digest, TrustError, Version
from edge_sdk.manifest import AssignedModel, Assignment, decode_assignment, decode_manifest
from edge_sdk.trust import open_assignment, target_path

_VIEW_S = 600.0  # how long one look at the metadata serves for manifests


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An assignment that may be taken up. ``floors``: what to keep with it."""

    document: bytes
    assignment: Assignment
    floors: Mapping[str, Version]


def check_signed(envelope: bytes, targets: Targets) -> bytes:
    """The assignment in an envelope. Raises: FormatError, TrustError."""
    return open_assignment(envelope, targets)


def check_target(target: TargetFile | None, path: str, artifact: Digest) -> None:
    """The publisher signed just this artifact under ``path``. Raises: TrustError."""
    if target is None:
        raise TrustError(f"nobody who may signed {path}", check="target")
    if target.hashes.get("sha256") != str(artifact):
        raise TrustError(
            f"{path} is signed as another artifact than {artifact.short}", check="target"
        )


def check_length(target: TargetFile | None, path: str, manifest: bytes) -> None:
    """Raises: TrustError."""
    if target is not None and target.length != len(manifest):
        raise TrustError(
            f"{path} has {len(manifest)} bytes; {target.length} were signed", check="length"
        )


class Gate:
    """Called from whatever thread may wait for the distributor; one call at a time is inside."""

    def __init__(self, metadata: TrustedMetadata) -> None:
        self._metadata = metadata
        self._lock = threading.Lock()
        self._view: Verified | None = None
        self._seen_s = 0.0

    def look(self) -> None:
        """Whether there is newer metadata. Raises: as ``TrustedMetadata.refresh``."""
        with self._lock:
            self._look()

    def judge(
        self,
        envelope: bytes,
        *,
        device: str,
        kept: bytes | None,
        floors: Callable[[], Mapping[str, Version]],
    ) -> Judged:
        """``kept``: the document accepted last; ``floors``: as kept on this device.

        Raises: FormatError, TrustError (the fact ``check`` says which check refused),
        UnavailableError, ResourceError.
        """
        with self._lock:
            view = self._look()
            document = check_signed(envelope, view.targets)
            assignment = decode_assignment(document)
            for one in assignment.models:
                _check_assigned(view, one)
            signed = {str(one.model): view.floor(one.model) for one in assignment.models}
            now_s = int(view.now.timestamp())
        own = {model: floor for model, floor in signed.items() if floor is not None}
        highest = raised(floors(), own)
        accept(assignment, document, device=device, kept=kept, floors=highest, now_s=now_s)
        return Judged(document=document, assignment=assignment, floors=own)

    def check_manifests(self, manifests: Sequence[bytes]) -> None:
        """Each is a manifest that its publisher signed. Raises: as ``judge``."""
        with self._lock:
            for manifest in manifests:
                said = decode_manifest(manifest)
                path = target_path(said.model, said.version, said.variant)
                artifact = Digest(hashlib.sha256(manifest).digest())
                target = self._fresh().target(path)
                if target is None:  # signed after the last look
                    target = self._look().target(path)
                check_target(target, path, artifact)
                check_length(target, path, manifest)

    def _fresh(self) -> Verified:
        if self._view is not None and time.monotonic() - self._seen_s < _VIEW_S:
            return self._view
        return self._look()

    def _look(self) -> Verified:
        self._view = None
        self._view = self._metadata.refresh()
        self._seen_s = time.monotonic()
        return self._view


def _check_assigned(view: Verified, assigned: AssignedModel) -> None:
    path = target_path(assigned.model, assigned.version, assigned.variant)
    check_target(view.target(path), path, assigned.artifact)
