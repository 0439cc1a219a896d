"""ONNX Runtime behind the engine contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edge_sdk.base import FormatError, NotFoundError, RefusedError, UsageError
from edge_sdk.engines import EngineError, Session, open_engine
from edge_sdk.engines.contract import STORAGE
from edge_sdk.engines.onnxruntime import OnnxRuntime, import_onnxruntime
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models


@pytest.fixture
def engine() -> OnnxRuntime:
    return OnnxRuntime()


def load(engine: OnnxRuntime, model: onnx.ModelProto, folder: Path) -> Session:
    return engine.load(onnx_models.save(model, folder / "model.onnx"))


def test_facts_are_those_of_the_documented_release(engine: OnnxRuntime) -> None:
    """The limits found by loading are those that were measured for these releases."""
    facts = engine.facts()
    known = {"1.31.1": (13, 26), "1.23.2": (11, 23)}
    assert facts.name == "onnxruntime"
    assert facts.opset_max["com.microsoft"] == 1
    assert facts.opset_max["ai.onnx.ml"] >= 3
    expected = known.get(facts.version)
    if expected is not None:
        assert (facts.ir_version_max, facts.opset_max[""]) == expected


def test_outputs_are_written_into_the_given_buffers(engine: OnnxRuntime, tmp_path: Path) -> None:
    """A run writes into the buffer it was given and returns nothing else."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    y = np.zeros((2, 4), np.float32)
    assert session.run({"x": np.full((2, 4), 2.0, np.float32)}, {"y": y}) == {}
    assert (y == 6.0).all()


def test_a_binding_is_prebound_to_addresses(engine: OnnxRuntime, tmp_path: Path) -> None:
    """What is written into a bound input is what the next run computes from, with no copy."""
    session = load(engine, onnx_models.linear(3.0), tmp_path)
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    x = pool.acquire(32).array(np.float32, (2, 4))
    y = pool.acquire(32).array(np.float32, (2, 4))
    binding = session.bind({"x": x}, {"y": y})
    for value in (1.0, 5.0):
        x[:] = value
        binding.run()
        assert (y == 3 * value).all()


def test_promised_shapes_follow_the_inputs(engine: OnnxRuntime, tmp_path: Path) -> None:
    """A symbolic dimension of an output is that of the input; one without name is unknown."""
    linear = load(engine, onnx_models.linear(1.0), tmp_path)
    assert linear.output_shapes({"x": (7, 4)}) == {"y": (7, 4)}
    nonzero = load(engine, onnx_models.nonzero(), tmp_path)
    assert nonzero.output_shapes({"x": (3, 2)}) == {"where": None, "twice": (3, 2)}


def test_an_output_whose_shape_depends_on_data_is_returned(
    engine: OnnxRuntime, tmp_path: Path
) -> None:
    """One binding gives results of changing shape beside a bound output of fixed shape."""
    session = load(engine, onnx_models.nonzero(), tmp_path)
    x = np.zeros((3, 2), np.float32)
    twice = np.zeros((3, 2), np.float32)
    binding = session.bind({"x": x}, {"twice": twice})
    kept = []
    for count in (6, 2, 0, 5):
        x[:] = 0
        x.ravel()[:count] = 1
        where = binding.run()["where"]
        assert where.shape == (2, count)
        assert (np.stack(np.nonzero(x)) == where).all()
        assert (twice == 2 * x).all()
        kept.append((count, where))
    assert all(where.shape == (2, count) for count, where in kept)


def test_a_broken_promise_of_shape_is_a_usage_error(engine: OnnxRuntime, tmp_path: Path) -> None:
    """A buffer that the output does not fit is refused, not overrun."""
    session = load(engine, onnx_models.nonzero(), tmp_path)
    x = np.zeros((3, 2), np.float32)
    with pytest.raises(UsageError, match="does not fit its buffer"):
        session.run({"x": x}, {"where": np.zeros((2, 5), np.int64)})


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.INT8, "int8"),
        (TensorProto.INT16, "int16"),
        (TensorProto.INT32, "int32"),
        (TensorProto.INT64, "int64"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.UINT16, "uint16"),
        (TensorProto.UINT32, "uint32"),
        (TensorProto.UINT64, "uint64"),
        (TensorProto.STRING, "string"),
    ],
)
def test_every_served_type_passes_unchanged(
    engine: OnnxRuntime, tmp_path: Path, number: int, dtype: str
) -> None:
    """Each type goes through bound and unbound, also without elements."""
    session = load(engine, onnx_models.identity(number), tmp_path)
    assert session.inputs[0].dtype == session.outputs[0].dtype == dtype
    x: np.ndarray[Any, Any] = np.array([0, 1, 1, 0]).astype(STORAGE[dtype])
    if dtype == "string":
        x = np.array(["", "ü", "a\nb", "z"], object)
    got = session.run({"x": x}, {})["y"]
    assert got.dtype == x.dtype
    assert (got == x).all()
    y = np.zeros(4, STORAGE[dtype])
    assert session.run({"x": x}, {"y": y}) == {}
    assert (y == x).all()
    assert session.run({"x": x[:0]}, {})["y"].shape == (0,)


def test_a_string_output_of_another_shape_is_refused(engine: OnnxRuntime, tmp_path: Path) -> None:
    """The buffer for strings must have the output's shape."""
    session = load(engine, onnx_models.identity(TensorProto.STRING), tmp_path)
    x = np.array(["a", "b"], object)
    with pytest.raises(UsageError, match="buffer"):
        session.run({"x": x}, {"y": np.empty(3, object)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing"),
        ({"x": np.ones((1, 4), np.float64)}, "float32"),
        ({"x": np.ones((1, 5), np.float32)}, "shape"),
        ({"x": np.ones(4, np.float32)}, "shape"),
        ({"x": np.ones((4, 4), np.float32).T[:, :4]}, "C order"),
        ({"x": np.ones((1, 4), np.float32), "z": np.ones(1, np.float32)}, "'z'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    engine: OnnxRuntime, tmp_path: Path, inputs: dict[str, Any], message: str
) -> None:
    """Wrong name, type, shape or layout is a UsageError that names it."""
    session = load(engine, onnx_models.linear(1.0), tmp_path)
    with pytest.raises(UsageError, match=message):
        session.run(inputs, {})


def test_weights_beside_the_model_are_found(engine: OnnxRuntime, tmp_path: Path) -> None:
    """A model with external data loads from its folder."""
    path = onnx_models.save(onnx_models.linear(4.0), tmp_path / "m.onnx", external="weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size >= 16
    session = engine.load(path)
    assert session.run({"x": np.ones((1, 4), np.float32)}, {})["y"][0, 0] == 4.0


def test_weights_outside_the_folder_are_refused(engine: OnnxRuntime, tmp_path: Path) -> None:
    """External data that leaves the model's folder never reaches the library."""
    inside = tmp_path / "inside"
    path = onnx_models.save(onnx_models.linear(4.0), inside / "m.onnx", external="weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    (tmp_path / "weights.bin").write_bytes((inside / "weights.bin").read_bytes())
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FormatError):
        engine.load(path)


def test_what_cannot_be_loaded_says_why(engine: OnnxRuntime, tmp_path: Path) -> None:
    """Missing, not a model, cut off, too new, unknown operator, sequences: each has its error."""
    path = tmp_path / "model.onnx"
    with pytest.raises(NotFoundError):
        engine.load(path)
    for content in (b"", b"just text" * 20, onnx_models.linear(1.0).SerializeToString()[:-9]):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            engine.load(path)
    newer = onnx_models.linear(1.0)
    newer.opset_import[0].version = 40
    with pytest.raises(RefusedError, match="cannot run"):
        engine.load(onnx_models.save(newer, path))
    unknown = onnx_models.linear(1.0)
    unknown.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(RefusedError, match="NoSuchOperator"):
        engine.load(onnx_models.save(unknown, path))
    with pytest.raises(RefusedError, match="seq"):
        engine.load(onnx_models.save(onnx_models.sequence(), path))


def test_strings_beside_bfloat16_are_refused(engine: OnnxRuntime, tmp_path: Path) -> None:
    """What the library can neither bind nor give is refused when it is loaded."""
    both = onnx_models.finish(
        [
            onnx.helper.make_node("Identity", ["x"], ["y"]),
            onnx.helper.make_node("Identity", ["s"], ["t"]),
        ],
        [
            onnx_models.value("x", TensorProto.BFLOAT16, [1]),
            onnx_models.value("s", TensorProto.STRING, [1]),
        ],
        [
            onnx_models.value("y", TensorProto.BFLOAT16, [1]),
            onnx_models.value("t", TensorProto.STRING, [1]),
        ],
    )
    with pytest.raises(RefusedError, match="bfloat16"):
        load(engine, both, tmp_path)


def test_a_failure_while_computing_is_an_engine_error(engine: OnnxRuntime, tmp_path: Path) -> None:
    """An index out of range, found only by the operator, is an EngineError."""
    gather = onnx_models.finish(
        [onnx.helper.make_node("Gather", ["table", "x"], ["y"])],
        [onnx_models.value("x", TensorProto.INT64, ["n"])],
        [onnx_models.value("y", TensorProto.FLOAT, ["n"])],
        [onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "table")],
    )
    session = load(engine, gather, tmp_path)
    with pytest.raises(EngineError):
        session.run({"x": np.array([7], np.int64)}, {})
    assert session.run({"x": np.array([2], np.int64)}, {})["y"][0] == 2.0


def test_a_closed_session_is_not_bound_again(engine: OnnxRuntime, tmp_path: Path) -> None:
    """After close, bind is an error instead of a crash."""
    session = load(engine, onnx_models.linear(1.0), tmp_path)
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run({"x": np.ones((1, 4), np.float32)}, {})


_LOOK = """
import json, os, sys, threading
from pathlib import Path
import numpy  # its own threads are not what is looked for
before = set(os.listdir("/proc/self/task"))
if sys.argv[1] == "through us":
    from edge_sdk.engines import open_engine
    session = open_engine("onnxruntime").load(Path(sys.argv[2]))
    session.run({"x": numpy.ones((1, 4), numpy.float32)}, {})
else:
    import onnxruntime
    onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
maps = Path("/proc/self/maps").read_text()
print(json.dumps({
    "library": "onnxruntime" in maps,
    "database": "onnxruntime.db" in maps,
    "threads": len(set(os.listdir("/proc/self/task")) - before),
    "files": sorted(str(one) for one in Path(os.environ["HOME"]).rglob("*") if one.is_file()),
}))
"""


def seen_by(way: str, folder: Path) -> dict[str, Any]:
    """What a process without CI in its environment has mapped, started and written at home."""
    path = onnx_models.save(onnx_models.linear(1.0), folder / "model.onnx")
    home = folder / "home"
    home.mkdir()
    hidden = ("CI", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {
        # One thread each: BLAS and the library's own pool would start some.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        **{"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(Path(__file__).parents[3])},
    }
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, way, str(path)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_telemetry_stays_off(tmp_path: Path) -> None:
    """Outside of CI, loading and running through us maps no database, starts no thread and
    leaves no file."""
    seen = seen_by("through us", tmp_path)
    assert seen == {"library": True, "database": False, "threads": 0, "files": []}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_telemetry_would_be_seen(tmp_path: Path) -> None:
    """The control: a release with the uploader, imported as it is, has its database open."""
    if tuple(map(int, import_onnxruntime().__version__.split(".")[:2])) < (1, 29):
        pytest.skip("this release of ONNX Runtime has no uploader")
    seen = seen_by("as it is", tmp_path)
    assert seen["database"] or seen["files"]
    assert seen["threads"] > 0


def test_no_thread_spins(engine: OnnxRuntime) -> None:
    """Between runs a thread waits without burning the core."""
    options = engine._options(threads=2)
    for pool in ("intra", "inter"):
        assert options.get_session_config_entry(f"session.{pool}_op.allow_spinning") == "0"


@pytest.mark.skipif(sys.platform != "linux", reason="counts the CPU time of threads")
def test_waiting_costs_no_cpu(engine: OnnxRuntime, tmp_path: Path) -> None:
    """Two threads that have worked take next to no CPU while nothing is asked of them."""
    path = onnx_models.save(onnx_models.mlp((512, 512, 512)), tmp_path / "model.onnx")
    session = engine.load(path, threads=2)
    x = np.ones((64, 512), np.float32)
    session.run({"x": x}, {})
    taken = []
    for _ in range(5):
        session.run({"x": x}, {})
        begin = time.process_time()
        time.sleep(0.01)  # what is measured is what the waiting costs
        taken.append(time.process_time() - begin)
    assert min(taken) < 0.002


def test_a_library_imported_unguarded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody imported the library without the variable, the engine does not open."""
    open_engine("onnxruntime")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    with pytest.raises(RefusedError, match="ORT_DISABLE_TELEMETRY"):
        open_engine("onnxruntime")


def test_a_provider_that_is_not_here_is_refused(engine: OnnxRuntime, tmp_path: Path) -> None:
    """The refusal names those that are available, and no model is loaded without it."""
    path = onnx_models.save(onnx_models.linear(1.0), tmp_path / "model.onnx")
    available = engine.facts().providers
    assert "CPUExecutionProvider" in available
    assert "AzureExecutionProvider" not in available  # it would send tensors away
    for name in ("NoSuchExecutionProvider", "AzureExecutionProvider"):
        with pytest.raises(RefusedError, match=f"{name}.*available: .*CPUExecutionProvider"):
            engine.load(path, providers=(name,))
    session = engine.load(path, providers=("cpu",))
    assert session.run({"x": np.ones((1, 4), np.float32)}, {})["y"][0, 0] == 1.0


def test_a_provider_that_did_not_start_is_refused(
    engine: OnnxRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library falls back to the CPU in silence where a provider's libraries are missing."""
    path = onnx_models.save(onnx_models.linear(1.0), tmp_path / "model.onnx")
    real = engine._library.InferenceSession
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    asked = []

    def without_cuda(*given: Any, providers: list[str]) -> Any:
        asked.append(providers)
        return real(*given, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(engine, "_available", lambda: tuple(both))
    monkeypatch.setattr(engine._library, "InferenceSession", without_cuda)
    with pytest.raises(RefusedError, match="could not start CUDAExecutionProvider"):
        engine.load(path, providers=("cpu", "cuda"))
    assert asked == [both]  # the CPU comes last


def test_an_unknown_way_of_loading_is_refused(engine: OnnxRuntime, tmp_path: Path) -> None:
    """It is not taken for one of those that are known."""
    path = onnx_models.save(onnx_models.linear(1.0), tmp_path / "model.onnx")
    with pytest.raises(RefusedError, match="only auto, mapped, prepacked"):
        engine.load(path, loading="quickly")  # type: ignore[arg-type]
