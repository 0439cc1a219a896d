"""The start of the process that serves."""

from __future__ import annotations

import gc
import socket
from pathlib import Path

from device_agent.config import AgentConfig
from device_agent.serving import InferenceProcess
from device_agent.serving.__main__ import leave_alone_what_stays
from device_agent.store import Slot, Store
from tests.support import onnx_models
from tests.support.held_models import hold


def test_what_stays_is_not_searched_for_garbage() -> None:
    """What is there is taken out of the search, and what comes after it is still found."""
    leave_alone_what_stays()
    try:
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < 1_000
        circle: list[object] = []
        circle.append(circle)
        del circle
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()


def test_the_start_is_over_when_models_are_loaded(tmp_path: Path) -> None:
    """What is called then finds them loaded, and comes before the first request."""
    store = Store.create(tmp_path / "state")
    store.slot_files.put(Slot(model="team/digits", active=hold(store, onnx_models.linear(2.0))))
    seen: list[tuple[int, bool]] = []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = InferenceProcess(AgentConfig(state_dir=str(store.root), device="one"), theirs)
        ours.shutdown(socket.SHUT_WR)  # it ends as soon as it would wait for a word
        with ours:
            process.run(
                when_loaded=lambda: seen.append((len(process.table.active()), process.table.ready))
            )
    assert seen == [(1, False)]
