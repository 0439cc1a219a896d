"""Proves a published artifact from end to end, as a device does before it installs it.

From a root that the caller trusts, through python-tuf's client, to the manifest's digest, and
from the manifest to every chunk of every file. The distributor's word counts for nothing.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from edge_sdk.base import (
    Digest,
    EdgeError,
    FormatError,
    ModelName,
    NotFoundError,
    ProofError,
    ResourceError,
    TrustError,
    UsageError,
    Version,
    explain_os_error,
    prove_stream,
)
from edge_sdk.evidence import (
    EVIDENCE_KEPT_BYTES_MAX,
    EVIDENCE_KEPT_MAX,
    Evidence,
    EvidencePolicy,
    find_evidence,
)
from edge_sdk.fleet.connection import Connection
from edge_sdk.fleet.metadata import MetadataClient
from edge_sdk.manifest import FileEntry, Manifest, decode_manifest
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos.operators_v1_pb2_grpc import ContentServiceStub
from edge_sdk.trust import metadata_bytes_max, target_path

_BASE = "metadata/"
_ROOT_ROTATIONS_MAX = 4096  # the client's own 256 makes it stop there, and say nothing

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedEvidence:
    """Evidence that is about exactly the artifact. ``signer``: who signed it, of those whom the
    caller believes; empty where the caller named nobody. ``builder``: what provenance says."""

    kind: str
    digest: Digest
    signer: str
    builder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """An artifact that held. ``floor``: below it no device of its model may ever go again."""

    artifact: Digest
    model: str
    version: str
    variant: str
    target: str
    floor: str | None
    files: int
    size_bytes: int
    evidence: tuple[ProvedEvidence, ...] = ()


class Proving:
    """What it takes to prove artifacts of one distributor."""

    def __init__(self, connection: Connection, metadata: MetadataClient) -> None:
        self._connection = connection
        self._metadata = metadata
        self._contents = ContentServiceStub(connection.channel)

    def prove(
        self,
        model: str,
        version: str,
        variant: str | None = None,
        *,
        root: bytes,
        policy: EvidencePolicy | None = None,
        advance: Advance | None = None,
    ) -> tuple[Proved, ...]:
        """Every variant of a version, or one. ``root``: the metadata from which trust begins;
        ``policy``: whose evidence is believed, and has to be there.

        Raises: TrustError (not signed by who had to, or older than what was seen before),
        ProofError (other bytes than signed), NotFoundError (not published), RefusedError
        (evidence is missing).
        """
        name, number = ModelName.parse(model), Version.parse(version)
        documents = self._published(str(name), str(number), variant)
        with _explained(), tempfile.TemporaryDirectory(prefix="edge-fleet-") as cache:
            seen = self._metadata.verified(root)  # not older than what this machine saw before
            for role, data in (
                ("timestamp", seen.timestamp_bytes),
                ("snapshot", seen.snapshot_bytes),
            ):
                (Path(cache) / f"{role}.json").write_bytes(data)
            updater = self._updater(cache, root)
            updater.refresh()
            found = {
                one: updater.get_targetinfo(target_path(name, number, one)) for one in documents
            }
        return tuple(
            self._prove(target_path(name, number, one), found[one], document, policy, advance)
            for one, document in sorted(documents.items())
        )

    def _published(self, model: str, version: str, variant: str | None) -> dict[str, bytes]:
        """The manifests by variant, as the distributor shows them."""
        request = fleet.ListModelsRequest(model=model)
        answer = self._connection.repeat(
            lambda: self._connection.stub.ListModels(
                request, timeout=self._connection.patience.deadline_s
            )
        )
        found = {
            one.variant: one.manifest
            for one in answer.artifacts
            if one.version == version and variant in (None, one.variant)
        }
        if not found:
            which = "" if variant is None else f" {variant}"
            raise NotFoundError(f"{model} {version}{which} is not published here")
        return found

    def _updater(self, cache: str, root: bytes) -> Updater:
        config = UpdaterConfig(
            max_root_rotations=_ROOT_ROTATIONS_MAX,
            root_max_length=metadata_bytes_max("root"),
            timestamp_max_length=metadata_bytes_max("timestamp"),
            snapshot_max_length=metadata_bytes_max("snapshot"),
            targets_max_length=metadata_bytes_max("targets"),
        )
        return Updater(
            cache, _BASE, fetcher=_Fetcher(self._metadata), config=config, bootstrap=root
        )

    def _prove(
        self,
        path: str,
        target: TargetFile | None,
        document: bytes,
        policy: EvidencePolicy | None,
        advance: Advance | None,
    ) -> Proved:
        if target is None:
            raise TrustError(
                f"nobody signed {path}: it is published, but no device would install it",
                target=path,
            )
        try:
            target.verify_length_and_hashes(document)
        except LengthOrHashMismatchError as error:
            raise ProofError(
                f"the manifest of {path} is not the one that was signed: {error}", target=path
            ) from None
        manifest = decode_manifest(document)
        artifact = Digest.of(document)
        evidence = self._evidence(artifact, manifest, policy)
        for entry in manifest.files:
            self._prove_file(artifact, manifest, entry)
            if advance is not None:
                advance(entry.size_bytes)
        return Proved(
            artifact=artifact,
            model=str(manifest.model),
            version=str(manifest.version),
            variant=manifest.variant,
            target=path,
            floor=(target.custom or {}).get("floor"),
            files=len(manifest.files),
            size_bytes=manifest.size_bytes,
            evidence=tuple(
                ProvedEvidence(
                    kind=one.kind, digest=one.digest, signer=one.signer, builder=one.builder
                )
                for one in evidence
            ),
        )

    def _evidence(
        self, artifact: Digest, manifest: Manifest, policy: EvidencePolicy | None
    ) -> tuple[Evidence, ...]:
        """Certificates are judged by the day on which the evidence came, as it is said here."""
        request = wire.FetchEvidenceRequest(artifact=artifact.raw)
        try:
            kept = self._connection.repeat(
                lambda: _within_limits(self._contents.FetchEvidence(request))
            )
        except UsageError:
            kept = []  # a distributor of before there was evidence
        required = () if policy is None else policy.of(manifest.model.namespace)
        return find_evidence(
            [(one.document, _date(one.added_ms)) for one in kept], required, manifest
        )

    def _prove_file(self, artifact: Digest, manifest: Manifest, entry: FileEntry) -> None:
        request = wire.FetchFileRequest(artifact=artifact.raw, path=entry.path)
        frames = self._connection.once_streamed(lambda: self._contents.FetchFile(request))
        parts = _Parts((frame.data for frame in frames), entry.size_bytes)
        proof = prove_stream(io.BufferedReader(parts))
        seen = (proof.size_bytes, proof.chunks, proof.digest, proof.sha256)
        if seen != (entry.size_bytes, entry.chunks, entry.digest, entry.sha256):
            raise ProofError(
                f"{entry.path} of {manifest.model} {manifest.version} {manifest.variant} is not "
                "what its signed manifest says",
                path=entry.path,
            )


def _within_limits(evidence: Iterable[wire.EvidenceFile]) -> list[wire.EvidenceFile]:
    """All of it. Raises: FormatError (more than a version may have)."""
    found: list[wire.EvidenceFile] = []
    left_bytes = EVIDENCE_KEPT_BYTES_MAX
    for one in evidence:
        left_bytes -= len(one.document)
        if len(found) == EVIDENCE_KEPT_MAX or left_bytes < 0:
            raise FormatError("the distributor has more evidence than a version may have")
        found.append(one)
    return found


def _date(at_ms: int) -> datetime:
    """Raises: FormatError."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise FormatError(f"evidence came at {at_ms} ms, which is no time") from None


class _Fetcher(FetcherInterface):
    """python-tuf asks for URLs; they are names of metadata files here."""

    def __init__(self, metadata: MetadataClient) -> None:
        self._metadata = metadata

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([self._metadata.get(url.removeprefix(_BASE))])
        except NotFoundError as error:
            raise DownloadHTTPError(error.message, 404) from None  # "no such root yet"


class _explained:  # noqa: N801 - used as a statement
    """Turns what python-tuf refuses into our errors."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, DownloadError) and isinstance(error.__cause__, EdgeError):
            raise error.__cause__ from None
        if isinstance(error, RepositoryError | DownloadError | FormatError):
            raise TrustError(
                f"the signed metadata do not hold: {type(error).__name__}: {error}"
            ) from error
        if isinstance(error, OSError):
            place = Path(tempfile.gettempdir()) if tempfile.tempdir else None
            if place is None:
                raise ResourceError(
                    "no temporary folder can be written to: free some disk, or name one in TMPDIR"
                ) from error
            raise explain_os_error(error, place) from error


class _Parts(io.RawIOBase):
    """A stream of what arrives; no more than one byte beyond what was promised."""

    def __init__(self, parts: Iterator[bytes], size_bytes: int) -> None:
        self._parts = parts
        self._left = b""
        self._room = size_bytes + 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        while not self._left and self._room > 0:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = part[: self._room]
            self._room -= len(self._left)
        count = min(len(view), len(self._left))
        view[:count], self._left = self._left[:count], self._left[count:]
        return count
