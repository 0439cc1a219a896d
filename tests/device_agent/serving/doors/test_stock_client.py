"""Every call of the stock Triton client that we claim, against what a real Triton answered."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from onnx import TensorProto

from device_agent.config import ModelConfig
from device_agent.serving.doors import InferenceDoor
from device_agent.serving.slots import SlotCache
from edge_sdk.engines.contract import Array, Binding
from tests.support import onnx_models
from tests.support.serving_door import serving
from tests.support.triton_calls import (
    ANSWERS,
    FLOATS,
    LABELS,
    TYPES,
    Peer,
    observe,
    peer,
    unspaced,
)
from tests.support.triton_cases import CASES

RECORDED: dict[str, dict[str, Any]] = json.loads(ANSWERS.read_text())
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The door with the models that the recorded Triton had."""
    folder = tmp_path_factory.mktemp("models")
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
    prefix = f"edge-test-{os.getpid()}-"
    door = InferenceDoor(made.table, made.dispatcher, models=SERVED, shared_memory_prefix=prefix)
    door.open("127.0.0.1:0")
    try:
        with peer(door.address, version="1.0.0", other="9.0.0", prefix=prefix) as to:
            yield to
    finally:
        door.close()


def test_every_call_was_recorded() -> None:
    """There is an answer of Triton's for each call, and no answer without a call."""
    assert set(RECORDED) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_stock_client_is_answered_as_by_triton(server: Peer, name: str) -> None:
    """The same status, the same payload, and a message that says the same key things."""
    told = observe(CASES[name], server)
    assert told["status"] == RECORDED[name]["status"], told
    assert told.get("answer") == RECORDED[name].get("answer")
    for one in (told, RECORDED[name]):
        for part in CASES[name].says:
            assert unspaced(part) in unspaced(str(one["message"]))
