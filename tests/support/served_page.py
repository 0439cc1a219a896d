"""AgentService of an updater, with a statistics page and without an inference process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agent.local_api import LocalApi
from device_agent.supervisor.updater_process import Door
from tests.support.updater_rig import Rig


@contextmanager
def served_page(folder: Path, words: memoryview | None) -> Iterator[str]:
    """Yields its state folder, as commands take it."""
    folder.mkdir(exist_ok=True)
    rig = Rig(folder)
    rig.start()
    try:
        with LocalApi(Door(rig.updater, words), rig.config):
            yield str(rig.state)
    finally:
        rig.close()
