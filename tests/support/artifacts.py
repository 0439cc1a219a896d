"""Synthetic artifacts: bytes with the manifest that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.base import Digest, ModelName, Version, prove_stream
from edge_sdk.manifest import FileEntry, Manifest, Requirements, Signature, encode_manifest


@dataclass(frozen=True, kw_only=True)
class ArtifactBytes:
    """A synthetic artifact: its manifest document and the bytes of its files."""

    manifest: Manifest
    files: Mapping[str, bytes]

    @property
    def document(self) -> bytes:
        return encode_manifest(self.manifest)

    @property
    def artifact(self) -> Digest:
        return Digest.of(self.document)


def entry_of(path: str, data: bytes) -> FileEntry:
    """The manifest entry that ``data`` has under ``path``."""
    step = 1 << 20
    chunks = tuple(Digest.of(data[at : at + step]) for at in range(0, len(data), step))
    return FileEntry(
        path=path,
        size_bytes=len(data),
        chunks=chunks,
        digest=Digest.of(b"".join(one.raw for one in chunks)),
        sha256=Digest.of(data),
    )


def make_artifact(
    files: Mapping[str, bytes],
    *,
    model: str = "team/digits",
    version: str = "1.0.0",
    variant: str = "fp32",
    parent: str | None = None,
    requires: Requirements | None = None,
    serve: str = "none",
) -> ArtifactBytes:
    """An artifact whose files are just bytes."""
    paths = sorted(files)
    manifest = Manifest(
        model=ModelName.parse(model),
        version=Version.parse(version),
        variant=variant,
        parent=None if parent is None else Version.parse(parent),
        files=tuple(entry_of(path, files[path]) for path in paths),
        format="opaque",
        entry=paths[0],
        requires=requires or Requirements(),
        signature=Signature(),
        golden=None,
        serve=serve,  # type: ignore[arg-type]
    )
    return ArtifactBytes(manifest=manifest, files=files)


def noise(size: int, seed: str = "") -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size)


def changed(data: bytes, every: int = 50_000) -> bytes:
    """``data`` with one byte changed in every ``every``: what a small update looks like."""
    out = bytearray(data)
    for at in range(every // 2, len(out), every):
        out[at] ^= 0x5A
    return bytes(out)


def proof_of(path: Path) -> Digest:
    """The file digest of a file."""
    with path.open("rb") as stream:
        return prove_stream(stream).digest
