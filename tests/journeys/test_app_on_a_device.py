"""An application beside a real agent: files, versions, events and answers across an update."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.client import Client, ModelEvent, VersionNotActiveError, connect
from tests.support import onnx_models
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet, loopback_fleet
from tests.support.processes import environment, wait_for

pytestmark = pytest.mark.distributor

CAMERA = Path(__file__).parents[2] / "firmware_examples" / "camera.py"
LABELS = {"1.0.0": ["cat", "dog", "bird"], "2.0.0": ["fox", "owl", "elk"]}
LIKELIEST = {"1.0.0": 1, "2.0.0": 2}


def artifact(folder: Path, version: str) -> Path:
    """A model with weights beside it and its labels: several files that travel as one."""
    weights = np.zeros((64, 3), np.float32)
    weights[:, LIKELIEST[version]] = 1
    path = folder / version
    onnx_models.save(
        onnx_models.mlp((64, 3), weights=[weights]), path / "model.onnx", external="weights.bin"
    )
    (path / "labels.txt").write_text("\n".join(LABELS[version]))
    return path


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path / "fleet") as running:
        for version in LABELS:
            running.publish(artifact(tmp_path / "artifacts", version), version)
        yield running


def hear(client: Client, heard: list[ModelEvent]) -> None:
    for event in client.model(MODEL).events():
        heard.append(event)
        if event.version == "2.0.0":
            return


def test_an_app_lives_through_an_update(fleet: LoopbackFleet, tmp_path: Path) -> None:
    """Answers, labels, held files and events belong to the version that they name."""
    agent = fleet.start_agent("kiosk-1")
    assert fleet.roll_out("1.0.0").succeeded
    frame = {"x": np.ones((1, 64), np.float32)}
    with connect(agent.ready["agent_address"]) as client:
        model = client.model(MODEL)
        heard: list[ModelEvent] = []
        listener = threading.Thread(target=hear, args=(client, heard))
        listener.start()
        wait_for(lambda: heard, "the switch to 1.0.0")
        with (tmp_path / "camera.jsonl").open("w") as out:
            camera = subprocess.Popen(
                [
                    *(sys.executable, str(CAMERA), "--model", MODEL),
                    *("--count", "100000", "--interval", "0.02"),
                ],
                env=environment(EDGE_AGENT_ADDRESS=agent.ready["agent_address"]),
                stdout=out,
            )
        try:
            with model.files() as files:
                assert files.version == model.version == "1.0.0"
                assert {"model.onnx", "weights.bin", "labels.txt"} <= set(files.names)
                assert model.infer(frame, version="1.0.0").version == "1.0.0"
                assert fleet.roll_out("2.0.0").succeeded
                # Held from before the switch: still there, and still what it was.
                assert files.path("labels.txt").read_text().split() == LABELS["1.0.0"]
            listener.join(timeout=60)
            assert model.version == "2.0.0"
            assert int(np.argmax(model.infer(frame).outputs["y"])) == LIKELIEST["2.0.0"]
            with pytest.raises(VersionNotActiveError) as refused:
                model.infer(frame, version="1.0.0")
            assert refused.value.facts["active"] == "2.0.0"
            wait_for(lambda: (2, "elk") in seen(tmp_path), "the camera's first elk")
        finally:
            camera.terminate()
            camera.wait(timeout=30)
    assert [(event.state, event.version) for event in heard] == [
        ("switched", "1.0.0"),
        ("switched", "2.0.0"),
    ]
    # Between a switch and the new labels' arrival a class has its number for a name.
    assert seen(tmp_path) <= {(1, "dog"), (2, "elk"), (1, "1"), (2, "2")}
    assert {(1, "dog"), (2, "elk")} <= seen(tmp_path)


def seen(folder: Path) -> set[tuple[int, str]]:
    """What the camera said: major version and label, whole lines only."""
    lines = (folder / "camera.jsonl").read_text().splitlines(keepends=True)
    said = [json.loads(line) for line in lines if line.endswith("\n")]
    return {(int(one["version"][0]), one["label"]) for one in said}
