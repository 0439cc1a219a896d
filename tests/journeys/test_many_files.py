"""A model that is several files travels, loads and is offered to the application as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_sdk.client import connect
from tests.support.fleet_on_loopback import MODEL, loopback_fleet
from tests.support.known_models import Array, known_versions
from tests.support.onnx_models import save

pytestmark = pytest.mark.distributor

LABELS = "labels/digits.txt"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.onnx.data"
FILES = {LABELS, TOKENIZER, WEIGHTS, "model.onnx", "golden.safetensors"}


def test_folder_travels_as_one(tmp_path: Path) -> None:
    """ONNX with external data, labels and a tokenizer in one folder travels by a delta, loads,
    and is offered to the application under its own names; the files of a version stay in
    place for as long as the application holds them."""
    known = known_versions(tmp_path / "models", 2)
    folders = {
        version: write_folder(tmp_path / version, model, version)
        for version, model in known.models.items()
    }
    with loopback_fleet(tmp_path / "fleet") as fleet:
        agent = fleet.start_agent("kiosk-1", EDGE_AGENT_PROBATION_DURATION_S="0.3")
        for version, folder in folders.items():
            fleet.publish(folder, version)
        assert fleet.roll_out("1.0.0").succeeded
        with connect(agent.ready["agent_address"]) as client:
            model = client.model(MODEL)
            check_answer(model.infer({"x": known.given}).outputs["y"], known.expected["1.0.0"])
            with model.files() as first:
                assert (first.version, set(first.names)) == ("1.0.0", FILES)
                rollout = fleet.roll_out("2.0.0")
                assert rollout.succeeded, rollout
                (device,) = rollout.devices
                assert int(device.facts["wire_bytes"]) < device.whole_bytes
                check_files(first.folder, folders["1.0.0"])
            check_answer(model.infer({"x": known.given}).outputs["y"], known.expected["2.0.0"])
            with model.files() as second:
                assert second.version == "2.0.0"
                assert second.path(LABELS).read_text().startswith("2.0.0 zero")
                check_files(second.folder, folders["2.0.0"])


def write_folder(folder: Path, model: onnx.ModelProto, version: str) -> Path:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    save(copy, folder / "model.onnx", external=WEIGHTS)
    assert (folder / WEIGHTS).stat().st_size > 100 * (folder / "model.onnx").stat().st_size
    (folder / LABELS).parent.mkdir()
    (folder / LABELS).write_text(f"{version} zero\none\ntwo\n")
    (folder / TOKENIZER).write_text('{"model": {"vocab": {"zero": 0}}}')
    return folder


def check_files(found: Path, published: Path) -> None:
    for path in (one for one in published.rglob("*") if one.is_file()):
        assert (found / path.relative_to(published)).read_bytes() == path.read_bytes()


def check_answer(got: Array, expected: Array) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
