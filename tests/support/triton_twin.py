"""Our door with the models that the recorded Triton had."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from onnx import TensorProto

from device_agent.config import ModelConfig
from device_agent.serving.doors import InferenceDoor
from device_agent.serving.slots import SlotCache
from edge_sdk.engines.contract import Array, Binding
from tests.support import onnx_models
from tests.support.serving_door import serving
from tests.support.triton_calls import FLOATS, LABELS, TYPES

_KINDS = {
    "text": TensorProto.STRING,
    "half": TensorProto.FLOAT16,
    "long": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "small": TensorProto.INT8,
}
SERVED = {
    "batched": ModelConfig(batch_max=8),
    "slow": ModelConfig(queue_max=2, runs_max=1),
}


class Slow:
    """A binding that sleeps as many seconds as its input says, then runs."""

    def __init__(self, binding: Binding, x: Array) -> None:
        self._binding = binding
        self._x = x

    def run(self) -> Mapping[str, Array]:
        time.sleep(float(self._x.flat[0]))
        return self._binding.run()


@contextmanager
def triton_twin(folder: Path, *, prefix: str, address: str = "127.0.0.1:0") -> Iterator[str]:
    """Its address; ``prefix``: of shared memory that may be registered."""
    for name in ("named", "batched"):
        (folder / name / "1.0.0").mkdir(parents=True)
        (folder / name / "1.0.0" / "labels.txt").write_text("".join(f"{one}\n" for one in LABELS))
    made = serving(
        folder,
        {
            **{name: onnx_models.linear(factor) for name, factor in FLOATS.items()},
            **{name: onnx_models.identity(_KINDS[name]) for name in TYPES},
        },
        settings=SERVED,
    )
    slow = made.table.find("slow", "")
    session, bind = slow.session, slow.session.bind
    slow.slots = SlotCache(session, made.pool)  # without the bindings of its warm-up
    session.bind = lambda given, outputs: Slow(bind(given, outputs), given["x"])  # type: ignore[method-assign]
    door = InferenceDoor(made.table, made.dispatcher, models=SERVED, shared_memory_prefix=prefix)
    door.open(address)
    try:
        yield door.address
    finally:
        door.close()
