"""What a request of static shapes allocates: nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from device_agent.supervisor.tree import INFERENCE_ENVIRONMENT
from tests.support import onnx_models
from tests.support.allocations import SHAPE
from tests.support.processes import environment

ROOT = Path(__file__).parents[3]
COUNTER = ROOT / "benchmarks" / "runtime" / "malloc_counter.c"
REQUESTS = 300

Seen = dict[str, dict[str, int | None]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("allocations")
    echo = onnx_models.finish(
        [helper.make_node("Relu", ["x"], ["y"])],
        [onnx_models.value("x", TensorProto.FLOAT, SHAPE)],
        [onnx_models.value("y", TensorProto.FLOAT, SHAPE)],
    )
    path = onnx_models.save(echo, folder / "model.onnx")
    # Below the tensors' size: what is allocated for each request then shows as faults as well.
    threshold = {"MALLOC_MMAP_THRESHOLD_": str(64 << 10)}
    variables = {**environment(), **INFERENCE_ENVIRONMENT, **threshold}
    compiler = shutil.which("cc")
    if compiler is not None:
        made = str(folder / "counter.so")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", made, str(COUNTER)], check=True)
        variables["LD_PRELOAD"] = made
    return {way: ask(path, way, variables) for way in ("pool", "bare")}


def ask(path: Path, way: str, variables: dict[str, str]) -> dict[str, int | None]:
    command = [sys.executable, "-m", "tests.support.allocations", str(path), way, str(REQUESTS)]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, check=True)
    answer: dict[str, int | None] = json.loads(done.stdout)
    return answer


# A figure is None where nothing here counts it: no compiler for the counter of calls, or a sandbox
# whose system counts no page faults.
def test_a_request_allocates_nothing(seen: Seen) -> None:
    """Its tensors lie in slabs, no allocator gives 4 KiB at once, and no page is touched anew."""
    ours = seen["pool"]
    assert ours["outside"] == 0
    assert ours["traced_peak"] is not None
    assert ours["traced_peak"] < 4096
    assert ours["faults"] is None or ours["faults"] < REQUESTS // 10
    assert ours["calls"] in (0, None)


def test_what_code_without_a_pool_allocates_is_seen(seen: Seen) -> None:
    """The control: each figure that is flat with the pool shows every request without it."""
    others = seen["bare"]
    assert others["outside"] == 10
    assert others["traced_peak"] is not None
    assert others["traced_peak"] > 600_000
    assert others["faults"] is None or others["faults"] > REQUESTS * 100
    assert others["calls"] is None or others["calls"] >= REQUESTS
