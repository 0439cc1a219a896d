"""Which artifact serves, where a version takes the place of one of another kind."""

from __future__ import annotations

from pathlib import Path

from device_agent.config import ProbationConfig
from device_agent.records import Drop, Switch
from device_agent.store import Slot, Store
from tests.support.artifacts import make_artifact, noise
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig, observation

MODEL = "team/digits"
SERVED = model_artifact(linear(1.0), version="1.0.0")
FILES_ONLY = make_artifact({"weights.bin": noise(10_000)}, version="2.0.0")


def slot(state: Path) -> Slot | None:
    return Store(state).slot_files.get(MODEL)


def test_files_for_an_application_end_what_served(rig: Rig) -> None:
    """A version that inference is not to serve takes the place of one that it served: once it
    is committed nobody answers for the model, as after the next start."""
    rig.server.assign(SERVED)
    rig.start()
    rig.wait_for_end(SERVED, "committed")
    inference = rig.inference
    assert inference is not None
    assert inference.serving == {MODEL: SERVED.artifact}
    rig.server.assign(FILES_ONLY)
    rig.wait_for_end(FILES_ONLY, "committed")
    rig.wait(lambda: inference.serving == {}, "inference to let go of the model")
    assert inference.kinds(Drop)[-1] == Drop(model=MODEL, artifact=None)
    assert slot(rig.state) == Slot(
        model=MODEL, active=FILES_ONLY.artifact, previous=SERVED.artifact
    )


def test_after_files_there_is_nothing_to_compare_with(rig: Rig) -> None:
    """A version that inference serves after one that it did not: probation does not wait for
    replays on the version before, which never come."""
    rig.configure(probation=ProbationConfig(duration_s=0.05, deadline_s=600, samples_min=4))
    rig.server.assign(FILES_ONLY)
    rig.start()
    rig.wait_for_end(FILES_ONLY, "committed")
    inference = rig.inference
    assert inference is not None
    inference.observed = lambda switch: observation(switch, requests=3, samples=0)
    rig.server.assign(SERVED)
    assert rig.wait_for_end(SERVED) == "committed"


def test_the_way_back_from_files_to_what_served(rig: Rig) -> None:
    """Going back loads the version before again, without a byte of it travelling."""
    rig.server.assign(SERVED)
    rig.start()
    rig.wait_for_end(SERVED, "committed")
    rig.server.assign(FILES_ONLY)
    rig.wait_for_end(FILES_ONLY, "committed")
    inference, sent = rig.inference, rig.server.sent_bytes
    assert inference is not None
    rig.wait(lambda: inference.serving == {}, "inference to let go of the model")
    rig.updater.loop.ask(lambda: rig.updater.roll_back(MODEL))
    rig.wait(lambda: inference.serving == {MODEL: SERVED.artifact}, "the version before")
    assert inference.kinds(Switch)[-1].artifact == SERVED.artifact
    assert rig.server.sent_bytes == sent
