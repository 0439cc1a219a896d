"""A disk that takes no more: a condition that is said and passes, not the updater's end."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.store import Slot, Store
from device_agent.store.filesystem import FileSystem
from device_agent.updater.update import Update
from edge_sdk.base import ResourceError
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig

MODEL = "team/digits"
V1 = model_artifact(linear(1.0), version="1.0.0")
V2 = model_artifact(linear(2.0), version="2.0.0")


@pytest.fixture
def on_v1(rig: Rig) -> Iterator[Rig]:
    """A device that runs version 1, committed."""
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    yield rig


def slot(rig: Rig) -> Slot | None:
    return Store(rig.state).slot_files.get(MODEL)


class FullDisk(FileSystem):
    """Takes no more bytes of files of these names while ``is_full``."""

    def __init__(self, *refusing: str) -> None:
        self.refusing = refusing
        self.is_full = threading.Event()
        self.refused = 0

    def _check(self, path: Path) -> None:
        if self.is_full.is_set() and path.name.strip(".").split(".")[0] in self.refusing:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def append(self, path: Path, data: bytes) -> None:
        self._check(path)
        super().append(path, data)

    def write(self, path: Path, data: bytes) -> None:
        self._check(path)
        super().write(path, data)


def disk_of(rig: Rig, *names: str) -> FullDisk:
    """From now on the updater's journal and slots are written through it."""
    disk = FullDisk(*names)
    rig.updater.journal._files = disk
    rig.updater.store.slot_files._files = disk
    return disk


@pytest.mark.parametrize("at", ["assigned", "planned", "proved", "tried", "on_probation"])
def test_a_journal_on_a_full_disk_holds_an_update_up(on_v1: Rig, at: str) -> None:
    """Wherever the disk becomes full: the updater lives, says ResourceError, what serves goes on
    serving, and with room again the update comes to its end."""
    disk = disk_of(on_v1, "journal")
    enter = on_v1.updater.log.enter

    def entering(update: Update, event: str, **more: Any) -> None:
        if update.state.value == at and update.artifact == V2.artifact and not disk.refused:
            disk.is_full.set()
        enter(update, event, **more)

    on_v1.updater.log.enter = entering  # type: ignore[method-assign]
    on_v1.server.assign(V2)
    on_v1.wait(lambda: disk.refused > 2, "the disk to be tried again and again")
    if at != "assigned":
        on_v1.wait(lambda: on_v1.updater.status().models[0].reason == "ResourceError", "a status")
        on_v1.wait(lambda: said_reason(on_v1) == "ResourceError", "the distributor to be told")
    assert on_v1.inference is not None
    assert on_v1.inference.serving[MODEL] in (V1.artifact, V2.artifact)
    disk.is_full.clear()
    assert on_v1.wait_for_end(V2) == "committed"
    assert on_v1.server.states(V2)[-5:] == [
        "proved",
        "tried",
        "switched",
        "on_probation",
        "committed",
    ]


def said_reason(rig: Rig) -> str:
    models = rig.server.check_ins[-1].models
    return str(models[0].reason) if models else ""


def test_a_slot_on_a_full_disk_is_written_when_there_is_room(on_v1: Rig) -> None:
    """The journal says that it switches; the switch itself follows as soon as it can."""
    disk = disk_of(on_v1, "digits")
    disk.is_full.set()
    on_v1.server.assign(V2)
    on_v1.wait(lambda: disk.refused > 2, "the slot to be tried again and again")
    assert on_v1.active() == V1.artifact
    disk.is_full.clear()
    assert on_v1.wait_for_end(V2) == "committed"
    assert slot(on_v1) == Slot(model=MODEL, active=V2.artifact, previous=V1.artifact)


def test_a_rollback_on_a_full_disk_is_said_and_made_up_for(on_v1: Rig) -> None:
    """Who asks hears ResourceError; with room again the version before serves."""
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "committed"
    disk = disk_of(on_v1, "journal")
    disk.is_full.set()
    with pytest.raises(ResourceError, match="as soon as there is room"):
        on_v1.updater.loop.ask(lambda: on_v1.updater.roll_back(MODEL))
    assert on_v1.active() == V2.artifact
    disk.is_full.clear()
    on_v1.wait(lambda: on_v1.active() == V1.artifact, "v1 to be active again")
