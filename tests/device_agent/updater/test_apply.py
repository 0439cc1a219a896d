"""Applying one step of a plan: descriptors."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

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


def feed(one: Application, delta: bytes) -> None:
    """Some of the bytes that it wants next."""
    span = one.cursor.left()[0]
    one.feed(delta[span.offset :][: min(span.length, 4096)])


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


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("keeps_prefix", [False, True])
def test_what_is_repeated_is_read_back_after_a_restart(
    tmp_path: Path, held: bool, keeps_prefix: bool
) -> None:
    """A delta whose second half is copies of the first goes on in a new process, from what was
    proved before, and also where the first file was already there as another's."""
    first, second = noise(3 << 20, "first"), noise(1 << 20, "second")
    source = make_artifact({"a": second, "b": second})
    files = {"a": first, "b": second + first[5:], "c": first[: 2 << 20] + second}
    target = make_artifact(files, version="2.0.0")
    store = Store.create(tmp_path / "s")
    hold(store, source)
    delta = made(tmp_path, source, target)
    store.artifacts.put(target.artifact, target.document)
    if held:
        path = store.partial_folder / "file"
        path.write_bytes(first)
        store.blobs.place(path, target.manifest.files[0].digest)
    step = PlanStep(
        source=source.artifact,
        target=target.artifact,
        delta=Digest.of(delta),
        delta_bytes=len(delta),
        decoder_memory_bytes=0,
        target_manifest=target.document,
    )
    one = Application(store, step, target.manifest, memory_limit_bytes=48 << 20)
    one.begin()
    while one.partial.chunks_proved < 5:
        feed(one, delta)
    one.close()
    if not keeps_prefix:
        one.partial.drop_prefix(step.delta)
    again = Application(store, step, target.manifest, memory_limit_bytes=48 << 20)
    again.begin()
    while not again.cursor.is_done:
        feed(again, delta)
    again.finish()
    again.partial.place()
    for entry in target.manifest.files:
        with store.blobs.open(entry.digest) as stream:
            assert stream.read() == files[entry.path]
