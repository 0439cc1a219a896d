"""The engine on a real GPU with the real library: the only tests of it that prove anything there.

They are skipped where either is missing. They have not been run yet: no machine of the project
has a GPU with TensorRT's libraries.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import Digest, RefusedError
from edge_sdk.engines import KnownModel, PlanRoom, make_golden, open_engine
from edge_sdk.engines.tensorrt import TensorRt
from edge_sdk.engines.tensorrt.session import TensorRtSession
from edge_sdk.formats import write_safetensors
from tests.support import onnx_models

X = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def engine() -> TensorRt:
    try:
        return TensorRt()
    except RefusedError as error:
        pytest.skip(f"!!! the engine tensorrt is NOT tested on hardware: {error.message}")


def load(engine: TensorRt, number: int, top: Path) -> tuple[TensorRtSession, np.ndarray]:
    """A perceptron with weights by number, and what ONNX Runtime answers to X."""
    entry = onnx_models.save(onnx_models.mlp(seed=number), top / str(number) / "model.onnx")
    reference = open_engine("onnxruntime").load(entry)
    golden = entry.with_name("golden.safetensors")
    with golden.open("wb") as stream:
        write_safetensors(stream, make_golden(reference, reference.inputs, {"x": X}))
    artifacts = [Digest.parse(f"{one:064x}") for one in range(9)]
    known = KnownModel(
        artifact=artifacts[number],
        room=PlanRoom(folder=top / "plans", room_bytes=lambda: 1 << 30, held=lambda: artifacts),
        golden=golden,
    )
    return engine.load_known(entry, known), reference.run({"x": X}, {})["y"]


def test_built_loaded_and_refitted(engine: TensorRt, tmp_path: Path) -> None:
    """The whole path with real plans; answers are ONNX Runtime's within float32."""
    built, expected = load(engine, 1, tmp_path)
    assert built.made_by == "build"
    assert np.allclose(built.run({"x": X}, {})["y"], expected, atol=1e-4, rtol=1e-3)
    refitted, other = load(engine, 2, tmp_path)
    assert (refitted.made_by, refitted.notes) == ("refit", ())
    assert np.allclose(refitted.run({"x": X}, {})["y"], other, atol=1e-4, rtol=1e-3)
    assert np.allclose(built.run({"x": X}, {})["y"], expected, atol=1e-4, rtol=1e-3)
    loaded, _ = load(engine, 2, tmp_path)
    assert loaded.made_by == "load"
    assert np.allclose(loaded.run({"x": X}, {})["y"], other, atol=1e-4, rtol=1e-3)


def test_an_output_whose_shape_depends_on_data(engine: TensorRt, tmp_path: Path) -> None:
    """The library calls our allocator, with answers of changing size."""
    session = engine.load(onnx_models.save(onnx_models.nonzero(), tmp_path / "model.onnx"))
    x = np.zeros((3, 2), np.float32)
    binding = session.bind({"x": x}, {})
    for count in (2, 6, 0, 5):
        x[:] = 0
        x.ravel()[:count] = 1
        assert (np.stack(np.nonzero(x)) == binding.run()["where"]).all()
