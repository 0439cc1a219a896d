"""Collecting where something that says what is needed cannot be read."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from device_agent.store import Slot, Store
from device_agent.store.collect import collect
from device_agent.store.filesystem import FileSystem
from tests.support.artifacts import make_artifact, noise

V1 = make_artifact({"weights": noise(3000)})


def hold(store: Store) -> None:
    store.artifacts.put(V1.artifact, V1.document)
    for entry in V1.manifest.files:
        path = store.partial_folder / "file"
        path.write_bytes(V1.files[entry.path])
        store.blobs.place(path, entry.digest)
    store.trees.build(V1.artifact, V1.manifest)
    store.slot_files.put(Slot(model="team/digits", active=V1.artifact))


@pytest.mark.parametrize("readings", [1, 2, 9])
def test_nothing_goes_while_a_slot_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readings: int
) -> None:
    """Too many open files for a moment: what serves keeps its manifest, tree and blobs."""
    store = Store.create(tmp_path / "s")
    hold(store)
    read = FileSystem.read
    failing = [readings]

    def short(files: FileSystem, path: Path) -> bytes:
        if "slots" in path.parts and failing[0]:
            failing[0] -= 1
            raise OSError(errno.EMFILE, "too many open files", str(path))
        return read(files, path)

    monkeypatch.setattr(FileSystem, "read", short)
    done = collect(store, keep=[], partial=[])
    assert (done.trees, done.artifacts, done.blobs) == (0, 0, 0)
    store.prove(V1.artifact)
    assert store.is_held(V1.artifact)
