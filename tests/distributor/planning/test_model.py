"""Planning values: what is taken of a manifest."""

from __future__ import annotations

from distributor.planning import ArtifactFacts
from edge_sdk.base import Digest, ModelName, Version, file_digest
from edge_sdk.manifest import FileEntry, Manifest, Requirements, Signature, encode_manifest


def test_facts_of_a_manifest() -> None:
    """Facts carry identity, requirements, total bytes and each file's digest with its bytes."""
    entries = tuple(
        FileEntry(
            path=path,
            size_bytes=len(data),
            chunks=(Digest.of(data),),
            digest=file_digest([Digest.of(data)]),
            sha256=Digest.of(data),
        )
        for path, data in (("labels.txt", b"0 1 2"), ("model.onnx", b"weights"))
    )
    manifest = Manifest(
        model=ModelName.parse("team/digits"),
        version=Version.parse("2.0.0"),
        variant="fp32",
        parent=Version.parse("1.0.0"),
        files=entries,
        format="onnx",
        entry="model.onnx",
        requires=Requirements(engine="onnxruntime"),
        signature=Signature(),
        golden=None,
        serve="inference",
    )
    artifact = Digest.of(encode_manifest(manifest))
    facts = ArtifactFacts.of(artifact, manifest)
    assert facts.artifact == artifact
    assert facts.size_bytes == 12
    assert facts.files == {entries[0].digest: 5, entries[1].digest: 7}
    assert (facts.model, facts.version, facts.parent) == (
        manifest.model,
        manifest.version,
        manifest.parent,
    )
    assert (facts.variant, facts.requires, facts.serve) == (
        "fp32",
        manifest.requires,
        "inference",
    )
