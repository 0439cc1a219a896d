"""A plan behind the engine contract, on a GPU made of host memory: no real one is used."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.base import RefusedError, ResourceError, UsageError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import STORAGE
from edge_sdk.engines.tensorrt import TensorRt
from edge_sdk.engines.tensorrt.rules import Options
from edge_sdk.engines.tensorrt.session import TensorRtSession
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models
from tests.support.fake_gpu import FakeGpu
from tests.support.fake_tensorrt import fake_tensorrt


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu()


@pytest.fixture
def engine(gpu: FakeGpu) -> TensorRt:
    return TensorRt(library=fake_tensorrt(gpu, "11.4.0.106"), device=gpu)


def load(engine: TensorRt, model: onnx.ModelProto, folder: Path) -> TensorRtSession:
    return engine.load(onnx_models.save(model, folder / "model.onnx"))


def test_outputs_are_written_into_the_given_buffers(engine: TensorRt, tmp_path: Path) -> None:
    """A run writes into the buffer it was given and returns nothing else."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.inputs] == [
        ("x", "float32", (-1, 4))
    ]
    y = np.zeros((2, 4), np.float32)
    assert session.run({"x": np.full((2, 4), 2.0, np.float32)}, {"y": y}) == {}
    assert (y == 6.0).all()


def test_a_binding_runs_many_times_on_slabs_of_the_pool(engine: TensorRt, tmp_path: Path) -> None:
    """What is written into a bound input is what the next run computes from."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    x = pool.acquire(32).array(np.float32, (2, 4))
    y = pool.acquire(32).array(np.float32, (2, 4))
    binding = session.bind({"x": x}, {"y": y})
    for value in (1.0, 5.0):
        x[:] = value
        binding.run()
        assert (y == 3 * value).all()


def test_a_bound_run_allocates_nothing(engine: TensorRt, gpu: FakeGpu, tmp_path: Path) -> None:
    """Memory of the GPU and pinned memory are taken when tensors are bound, not per run."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    binding = session.bind({"x": np.ones((2, 4), np.float32)}, {})
    before = (set(gpu.memory), set(gpu.pinned))
    binding.run()
    binding.run()
    assert (set(gpu.memory), set(gpu.pinned)) == before


def test_bindings_of_different_shapes_take_turns(engine: TensorRt, tmp_path: Path) -> None:
    """One execution context serves all of them, with each one's shapes and addresses."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    bindings = {
        size: session.bind({"x": np.full((size, 4), size, np.float32)}, {}) for size in (1, 8, 3)
    }
    for _ in range(2):
        for size, binding in bindings.items():
            y = binding.run()["y"]
            assert y.shape == (size, 4)
            assert (y == 3 * size).all()


def test_shapes_are_promised_by_the_context(engine: TensorRt, tmp_path: Path) -> None:
    """Outputs of the input's size are known before the run; others and impossible ones not."""
    linear = load(engine, onnx_models.linear(1.0), tmp_path)
    assert linear.output_shapes({"x": (7, 4)}) == {"y": (7, 4)}
    assert linear.output_shapes({"x": (99, 4)}) == {"y": None}
    nonzero = load(engine, onnx_models.nonzero(), tmp_path)
    assert nonzero.output_shapes({"x": (3, 2)}) == {"where": None, "twice": (3, 2)}


def test_a_question_about_shapes_between_runs_changes_nothing(
    engine: TensorRt, tmp_path: Path
) -> None:
    """The context's shapes are put back before the next run of a binding."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    binding = session.bind({"x": np.ones((2, 4), np.float32)}, {})
    binding.run()
    session.output_shapes({"x": (5, 4)})
    assert binding.run()["y"].shape == (2, 4)


def test_an_output_whose_shape_depends_on_data_grows(engine: TensorRt, tmp_path: Path) -> None:
    """The allocator gives memory by the largest answer so far; smaller ones use it again."""
    session = load(engine, onnx_models.nonzero(), tmp_path)
    x = np.zeros((3, 2), np.float32)
    twice = np.zeros((3, 2), np.float32)
    binding = session.bind({"x": x}, {"twice": twice})
    for count in (2, 6, 0, 5):
        x[:] = 0
        x.ravel()[:count] = 1
        where = binding.run()["where"]
        assert where.shape == (2, count)
        assert (np.stack(np.nonzero(x)) == where).all()
        assert (twice == 2 * x).all()


def test_a_data_dependent_output_of_two_bindings(engine: TensorRt, tmp_path: Path) -> None:
    """The context keeps one allocator per output, whichever binding runs."""
    session = load(engine, onnx_models.nonzero(), tmp_path)
    bindings = []
    for count in (1, 6, 3):
        x = np.zeros((3, 2), np.float32)
        x.ravel()[:count] = 1
        bindings.append((count, session.bind({"x": x}, {})))
    for count, binding in (*bindings, *bindings):
        assert binding.run()["where"].shape == (2, count)


def test_a_view_outlives_its_binding(engine: TensorRt, gpu: FakeGpu, tmp_path: Path) -> None:
    """Pinned memory stays as long as an answer looks at it, and goes then."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    y = session.bind({"x": np.ones((2, 4), np.float32)}, {}).run()["y"]
    session.close()
    gc.collect()
    assert (y == 3.0).all()
    assert not gpu.memory
    assert len(gpu.pinned) == 1
    del y
    gc.collect()
    assert not gpu.pinned


def test_a_buffer_that_does_not_fit_is_refused(engine: TensorRt, tmp_path: Path) -> None:
    """When it is bound where the shape is known, else after the run."""
    linear = load(engine, onnx_models.linear(1.0), tmp_path)
    with pytest.raises(UsageError, match="its buffer"):
        linear.bind({"x": np.ones((2, 4), np.float32)}, {"y": np.ones((3, 4), np.float32)})
    nonzero = load(engine, onnx_models.nonzero(), tmp_path)
    with pytest.raises(UsageError, match="its buffer"):
        nonzero.run({"x": np.ones((3, 2), np.float32)}, {"where": np.zeros((2, 5), np.int64)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing"),
        ({"x": np.ones((1, 4), np.float64)}, "float32"),
        ({"x": np.ones((1, 5), np.float32)}, "shape"),
        ({"x": np.ones((9, 4), np.float32)}, r"from \[1, 4\] to \[8, 4\]"),
        ({"x": np.ones((4, 4), np.float32).T[:, :4]}, "C order"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    engine: TensorRt, tmp_path: Path, inputs: dict[str, Any], message: str
) -> None:
    """Also a batch that is larger than what the plan was built for, with its bounds."""
    session = load(engine, onnx_models.linear(1.0), tmp_path)
    with pytest.raises(UsageError, match=message):
        session.run(inputs, {})


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.INT8, "int8"),
        (TensorProto.INT32, "int32"),
        (TensorProto.INT64, "int64"),
        (TensorProto.UINT8, "uint8"),
    ],
)
def test_every_served_type_passes_unchanged(
    engine: TensorRt, tmp_path: Path, number: int, dtype: str
) -> None:
    """Bit by bit, for every type that TensorRT can take and give."""
    session = load(engine, onnx_models.identity(number), tmp_path)
    assert session.inputs[0].dtype == session.outputs[0].dtype == dtype
    x = np.array([0, 1, 1, 0]).astype(STORAGE[dtype])
    got = session.run({"x": x}, {})["y"]
    assert got.dtype == x.dtype
    assert (got == x).all()


def test_types_inside_of_networks_only_are_refused(
    engine: TensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FP8 as an input: the error names the tensor and what there is."""
    monkeypatch.setattr(
        "tests.support.fake_tensorrt._ONNX_TYPES", {TensorProto.FLOAT: "FP8"}, raising=True
    )
    with pytest.raises(RefusedError, match="'x' is FP8"):
        load(engine, onnx_models.identity(TensorProto.FLOAT), tmp_path)


def test_shapes_as_tensors_are_refused_with_a_remedy(engine: TensorRt, tmp_path: Path) -> None:
    """An input whose values are a shape, and an output that is one, lie on the host."""
    reshape = onnx_models.finish(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [
            onnx_models.value("x", TensorProto.FLOAT, [4]),
            onnx_models.value("shape", TensorProto.INT64, [2]),
        ],
        [onnx_models.value("y", TensorProto.FLOAT, [None, None])],
    )
    with pytest.raises(RefusedError, match="onnxruntime"):
        load(engine, reshape, tmp_path)
    shape = onnx_models.finish(
        [helper.make_node("Shape", ["x"], ["y"])],
        [onnx_models.value("x", TensorProto.FLOAT, ["n", 4])],
        [onnx_models.value("y", TensorProto.INT64, [2])],
    )
    with pytest.raises(RefusedError, match="onnxruntime"):
        load(engine, shape, tmp_path)


def test_a_run_that_is_refused_is_an_engine_error(engine: TensorRt, tmp_path: Path) -> None:
    """With what the library said; the session works again when the cause is gone."""
    session = load(engine, onnx_models.linear(2.0), tmp_path)
    binding = session.bind({"x": np.ones((1, 4), np.float32)}, {})
    engine.library.seen.run_fails = True  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="the run was refused"):
        binding.run()
    engine.library.seen.run_fails = False  # type: ignore[attr-defined]
    assert (binding.run()["y"] == 2.0).all()


def test_a_gpu_without_memory_is_a_resource_error(
    engine: TensorRt, gpu: FakeGpu, tmp_path: Path
) -> None:
    """Also where the library asks for it in the middle of a run, which must not raise there."""
    linear = load(engine, onnx_models.linear(2.0), tmp_path)
    nonzero = load(engine, onnx_models.nonzero(), tmp_path)
    binding = nonzero.bind({"x": np.ones((3, 2), np.float32)}, {})
    gpu.room_bytes = 8
    with pytest.raises(ResourceError):
        linear.bind({"x": np.ones((8, 4), np.float32)}, {})
    with pytest.raises(ResourceError):
        binding.run()
    gpu.room_bytes = 1 << 20
    assert binding.run()["where"].shape == (2, 6)


def test_threads_take_turns(engine: TensorRt, tmp_path: Path) -> None:
    """Four threads, bindings and shapes of their own: everyone gets their own answer."""
    session = load(engine, onnx_models.linear(2.0), tmp_path)
    wrong: list[int] = []

    def work(size: int) -> None:
        binding = session.bind({"x": np.full((size, 4), size, np.float32)}, {})
        for _ in range(10):
            y = binding.run()["y"]
            if y.shape != (size, 4) or not (y == 2 * size).all():
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_closed_session_is_an_error_and_leaves_nothing(
    engine: TensorRt, gpu: FakeGpu, tmp_path: Path
) -> None:
    """After close nothing runs any more, and no stream or memory is left."""
    session = load(engine, onnx_models.nonzero(), tmp_path)
    binding = session.bind({"x": np.ones((3, 2), np.float32)}, {})
    binding.run()
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        binding.run()
    with pytest.raises(EngineError, match="closed"):
        session.bind({"x": np.ones((3, 2), np.float32)}, {})
    del binding, session
    gc.collect()
    assert (gpu.memory, gpu.pinned, gpu.streams) == ({}, {}, {})


def test_options_reach_the_builder(gpu: FakeGpu, tmp_path: Path) -> None:
    """Level, workspace, TF32 and the largest batch."""
    options = Options(level=5, workspace_bytes=1 << 20, tf32=True, batch_max=32)
    engine = TensorRt(options=options, library=fake_tensorrt(gpu), device=gpu)
    load(engine, onnx_models.linear(2.0), tmp_path)
    (built,) = engine.library.seen.builds  # type: ignore[attr-defined]
    assert (built["level"], built["pools"]) == (5, {"WORKSPACE": 1 << 20})
    assert built["flags"] == ["REFIT", "TF32"]
    assert built["bounds"] == {"x": [[1, 4], [1, 4], [32, 4]]}
