"""Publishers with keys in memory, who sign what a catalog's distributor is to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater

from distributor import signing
from distributor.signing import OnlineKeys, Put
from distributor.signing.records import newest, signed_among, versions
from edge_sdk import trust
from edge_sdk.base import Digest
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.catalog import Catalog

File = tuple[str, bytes]
Documents = Metadata[Targets]


def this_second() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def new_key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def file_of(role: str, document: Metadata[Root] | Documents, *signers: CryptoSigner) -> File:
    """The wire name and the signed bytes of a document."""
    return trust.file_name(role, document.signed.version), trust.sign(document, signers)


def artifact_of(
    version: str, *, model: str = "team/digits", variant: str = "fp32"
) -> ArtifactBytes:
    data = f"{model} {version} {variant}".encode()
    return make_artifact({"m.bin": data}, model=model, version=version, variant=variant)


@dataclass
class Signing:
    """The keys of a whole fleet: root, targets and publishers here, the online ones in files."""

    catalog: Catalog
    folder: Path
    now: datetime = field(default_factory=this_second)
    root_keys: list[CryptoSigner] = field(default_factory=lambda: [new_key()])
    targets_key: CryptoSigner = field(default_factory=new_key)
    publishers: dict[str, CryptoSigner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog.pretends = False

    @cached_property
    def keys(self) -> OnlineKeys:
        keys = OnlineKeys(self.folder / "keys")
        keys.create()
        return keys

    def online(self, role: str) -> CryptoSigner:
        """The newest online key of a role."""
        newest_key = [one for one in self.keys.all() if one.role == role][-1]
        (signer,) = self.keys.signers(role, [newest_key.key_id])
        assert isinstance(signer, CryptoSigner)
        return signer

    def root(self, **changed: object) -> Metadata[Root]:
        """Version 1 of the root."""
        facts = {
            "root_keys": [one.public_key for one in self.root_keys],
            "threshold": len(self.root_keys),
            "targets_keys": [self.targets_key.public_key],
            "snapshot_key": self.online("snapshot").public_key,
            "timestamp_key": self.online("timestamp").public_key,
            "now": self.now,
        }
        return trust.new_root(**(facts | changed))  # type: ignore[arg-type]

    def targets(self, *namespaces: str) -> Documents:
        """Version 1 of the top-level targets, with a new key for each namespace."""
        online = self.online("assignments").public_key
        document = trust.new_targets(assignment_keys=[online], now=self.now)
        for namespace in namespaces:
            key = self.publishers.setdefault(namespace, new_key())
            document = trust.delegate_namespace(document, namespace, [key.public_key], now=self.now)
        document.signed.version = 1
        return document

    def first(self, *namespaces: str) -> list[File]:
        """What is put first: the root, the targets, and each namespace's empty document."""
        files = [
            file_of("root", self.root(), *self.root_keys),
            file_of("targets", self.targets(*namespaces), self.targets_key),
        ]
        for namespace in namespaces:
            empty = trust.new_namespace(now=self.now)
            role = trust.namespace_role(namespace)
            files.append(file_of(role, empty, self.publishers[namespace]))
        return files

    def begin(self, *namespaces: str) -> Put:
        return self.put(*self.first(*(namespaces or ("team",))))

    def put(self, *files: File, by: str = "alice") -> Put:
        return self.catalog.write(signing.put, files, self.keys, now=self.now, by=by)

    def renew(self) -> bool:
        return self.catalog.write(signing.renew, self.keys, now=self.now)

    def held(self, role: str) -> bytes:
        document = self.catalog.read(newest, role)
        assert document is not None, role
        return document

    def document(self, role: str) -> Documents:
        return trust.read(role, self.held(role), Targets)

    def sign_target(
        self, artifact: ArtifactBytes, *, floor: str | None = None, add: bool = True
    ) -> File:
        """The next document of the artifact's namespace or bin, with one more target."""
        if add:
            self.catalog.add(artifact)
        said = artifact.manifest
        path = trust.target_path(said.model, said.version, said.variant)
        namespace = said.model.namespace
        first = self.document(trust.namespace_role(namespace))
        role = trust.holder(namespace, first.signed, path)
        custom: Mapping[str, str] = {} if floor is None else {"floor": floor}
        new = trust.add_target(self.document(role), path, artifact.document, custom, now=self.now)
        assert new is not None
        return file_of(role, new, self.publishers[namespace])

    def publish(self, version: str, *, floor: str | None = None, **facts: str) -> ArtifactBytes:
        artifact = artifact_of(version, **facts)
        self.put(self.sign_target(artifact, floor=floor))
        return artifact

    def split(self, namespace: str = "team") -> list[File]:
        """The namespace's documents spread over twice as many bins."""
        role, key = trust.namespace_role(namespace), self.publishers[namespace]
        document = self.document(role)
        bins = {name: self.document(name) for name in trust.bin_roles(document.signed)}
        parent, parts = trust.split(namespace, document, bins, [key.public_key], now=self.now)
        return [file_of(role, parent, key), *(file_of(n, d, key) for n, d in parts.items())]

    def signed_now(self, artifacts: Sequence[ArtifactBytes]) -> list[Digest]:
        """Those that may be rolled out."""
        wanted = [one.artifact for one in artifacts]
        found = self.catalog.read(signed_among, wanted)
        return [one for one in wanted if one in found]

    def everything(self) -> dict[str, bytes]:
        """Every newest file by its name on the wire, for a client."""
        roots = self.catalog.read(versions)["root"]
        names = [f"{number}.root.json" for number in range(1, roots + 1)]
        found = {name: self.catalog.read(signing.metadata_file, name) for name in names}
        for role, version in self.catalog.read(versions).items():
            if role != "root":
                name = trust.file_name(role, version)
                found[name] = self.catalog.read(signing.metadata_file, name)
        return found

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)


class _Files(FetcherInterface):
    """A mirror that has exactly these files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self.files:
            raise DownloadHTTPError("no such file", 404)
        return iter([self.files[name]])


def client_finds(files: Mapping[str, bytes], path: str, folder: Path) -> TargetFile | None:
    """What python-tuf's own client, which knows the first root alone, finds under ``path``.

    Its clock is this machine's. Raises: whatever it raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    updater = Updater(
        str(folder), "mem://metadata/", fetcher=_Files(files), bootstrap=files["1.root.json"]
    )
    updater.refresh()
    return updater.get_targetinfo(path)
