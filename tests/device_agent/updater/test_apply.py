"""Applying one step of a plan: descriptors."""

from __future__ import annotations

import io
from pathlib import Path

from device_agent.fleet_link import PlanStep
from device_agent.store import Store
from device_agent.updater.apply import Application
from edge_sdk.base import Digest
from edge_sdk.delta import encode
from tests.support.artifacts import ArtifactBytes, make_artifact, noise


def test_a_source_of_many_files_needs_few_descriptors(tmp_path: Path) -> None:
    """As many open files as a device may have is no limit to the files of a model."""
    names = [f"{number:04}" for number in range(200)]
    source = make_artifact({name: noise(2000, name) for name in names})
    target = make_artifact({name: noise(2000, name) + b"x" for name in names}, version="2.0.0")
    store = Store.create(tmp_path / "s")
    hold(store, source)
    delta = made(tmp_path, source, target)
    store.artifacts.put(target.artifact, target.document)
    step = PlanStep(
        source=source.artifact,
        target=target.artifact,
        delta=Digest.of(delta),
        delta_bytes=len(delta),
        decoder_memory_bytes=0,
        target_manifest=target.document,
    )
    one = Application(store, step, target.manifest, memory_limit_bytes=48 << 20)
    before = descriptors()
    one.begin()
    most = 0
    for at in range(0, len(delta), 4096):
        one.feed(delta[at : at + 4096])
        most = max(most, descriptors() - before)
    one.finish()
    assert most <= 100
    assert one.partial.chunks_proved == 200
    one.close()
    assert descriptors() == before


def hold(store: Store, artifact: ArtifactBytes) -> None:
    store.artifacts.put(artifact.artifact, artifact.document)
    for entry in artifact.manifest.files:
        path = store.partial_folder / "file"
        path.write_bytes(artifact.files[entry.path])
        store.blobs.place(path, entry.digest)


def made(folder: Path, source: ArtifactBytes, target: ArtifactBytes) -> bytes:
    for name, artifact in (("source", source), ("target", target)):
        (folder / name).mkdir()
        for path, data in artifact.files.items():
            (folder / name / path).write_bytes(data)
    out = io.BytesIO()
    encode(folder / "source", folder / "target", out)
    return out.getvalue()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
