"""The camera example as a real process, across a switch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support import onnx_models
from tests.support.agent_service import FakeAgent, fake_agent
from tests.support.processes import environment
from tests.support.serving_door import Serving, serving

CAMERA = Path(__file__).parents[2] / "firmware_examples" / "camera.py"
MODEL = "team/digits"


def prefers(likeliest: int) -> onnx.ModelProto:
    """A layer that prefers one of three classes for any bright frame; its input is no ``x``."""
    matrix = np.zeros((64, 3), np.float32)
    matrix[:, likeliest] = 1
    model = onnx_models.mlp(weights=[matrix], sizes=(64, 3))
    model.graph.input[0].name = "image"
    for node in model.graph.node:
        node.input[:] = ["image" if name == "x" else name for name in node.input]
    return model


@pytest.fixture
def device(tmp_path: Path) -> Iterator[tuple[FakeAgent, Serving]]:
    made = serving(tmp_path / "models", {MODEL: prefers(1)})
    made.door.open(f"unix:{tmp_path}/inference.sock")
    try:
        with fake_agent(tmp_path) as agent:
            agent.inference_address = made.door.address
            agent.models[MODEL] = ("1.0.0", labels(tmp_path / "one", "cat dog bird"))
            yield agent, made
    finally:
        made.door.close()


def labels(folder: Path, names: str) -> Path:
    folder.mkdir()
    (folder / "labels.txt").write_text(names.replace(" ", "\n"))
    return folder


def camera(agent: FakeAgent, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CAMERA), "--model", MODEL, *arguments],
        env=environment(EDGE_AGENT_ADDRESS=agent.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_labels_follow_the_version(device: tuple[FakeAgent, Serving], tmp_path: Path) -> None:
    """Before and after a switch, each line has the label that its own version gives the class."""
    agent, made = device
    process = camera(agent, "--count", "400", "--interval", "0.01")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first == {"frame": 0, "label": "dog", "version": "1.0.0", "dropped": 0}
    agent.models[MODEL] = ("2.0.0", labels(tmp_path / "two", "fox owl elk"))
    made.serve(MODEL, prefers(2), "2.0.0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    seen = {(line["version"], line["label"]) for line in map(json.loads, out.splitlines())}
    assert ("2.0.0", "elk") in seen
    assert seen <= {("1.0.0", "dog"), ("2.0.0", "elk"), ("1.0.0", "1")}


def test_frames_come_from_a_folder(device: tuple[FakeAgent, Serving], tmp_path: Path) -> None:
    """Files in turn; a dark frame has no class that is likelier, so the first."""
    folder = tmp_path / "frames"
    folder.mkdir()
    np.save(folder / "a.npy", np.zeros((8, 8)))
    np.save(folder / "b.npy", np.ones((8, 8)))
    process = camera(device[0], "--count", "4", "--frames", str(folder))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["cat", "dog"] * 2


def test_a_demanded_version_that_is_not_active_ends_it(
    device: tuple[FakeAgent, Serving],
) -> None:
    """The app says which version is active and stops with the exit code of that error."""
    process = camera(device[0], "--require", "9.0.0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "version 1.0.0 is active" in err
    assert out == ""
    process = camera(device[0], "--require", "1.0.0", "--count", "1")
    assert json.loads(process.communicate(timeout=60)[0])["version"] == "1.0.0"


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    """A folder without frames is not answered with noise, nor a wrong shape with a traceback."""
    for wrong in (["--frames", str(tmp_path)], ["--shape", "1,x"]):
        done = subprocess.run(
            [sys.executable, str(CAMERA), *wrong],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert wrong[0] in done.stderr.splitlines()[-1]


def test_without_an_agent_one_line_says_so(tmp_path: Path) -> None:
    """No traceback where nobody runs."""
    done = subprocess.run(
        [sys.executable, str(CAMERA), "--agent", f"unix:{tmp_path}/none.sock", "--patience", "0"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "none.sock" in done.stderr
    assert "Traceback" not in done.stderr
