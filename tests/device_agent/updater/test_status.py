"""How a model stands, and what follows from it."""

from __future__ import annotations

from edge_sdk.base import Digest
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig

V1 = model_artifact(linear(1.0), version="1.0.0")
V2 = model_artifact(linear(2.0), version="2.0.0")


def test_going_back_twice_ends(rig: Rig) -> None:
    """Back and back again: what was asked for last serves and stays."""
    rig.start()
    for version in (V1, V2):
        rig.server.assign(version)
        rig.wait_for_end(version, "committed")
    updater = rig.updater

    def standing() -> tuple[Digest, str]:
        update = updater.updates["team/digits"]
        return update.artifact, update.state.value

    for wanted in (V1, V2, V1):
        updater.loop.ask(lambda: updater.roll_back("team/digits"))
        there = (wanted.artifact, "committed")
        rig.wait(lambda there=there: updater.loop.ask(standing) == there, "the one before")
        updater.loop.ask(lambda: None)  # what follows from that has been decided
        assert updater.loop.ask(standing) == there
