"""Which models may be run on several requests at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from device_agent.config import ModelConfig
from device_agent.serving import batch_trial
from device_agent.serving.request import GivenTensor
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import Session
from tests.support import onnx_models
from tests.support.serving_door import Serving, serving

NAME = "team/tried"


def across_rows() -> onnx.ModelProto:
    """Subtracts the mean over all rows: what a row gets depends on its company."""
    shape = ["n", 4]
    return onnx_models.finish(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"]),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [onnx_models.value("x", TensorProto.FLOAT, shape)],
        [onnx_models.value("y", TensorProto.FLOAT, shape)],
    )


def served(folder: Path, model: onnx.ModelProto, batch_max: int = 4) -> Serving:
    return serving(folder, {NAME: model}, settings={NAME: ModelConfig(batch_max=batch_max)})


def test_every_size_is_measured_and_bound(tmp_path: Path) -> None:
    """Rows that stand alone: costs for each size, and requests up to the limit share buffers."""
    made = served(tmp_path, onnx_models.linear(2.0), batch_max=6)
    generation = made.table.find(NAME, "")
    assert generation.batch_costs is not None
    assert set(generation.batch_costs._ns) == {1, 2, 4, 6}
    (homes,) = generation.slots._idle.values()
    assert set(homes[0]._slots) == set(range(1, 7))  # type: ignore[union-attr]
    used = made.pool.statistics().slabs_used
    slots = [generation.slots.take([(rows, 4)]) for rows in (1,)]
    assert made.pool.statistics().slabs_used == used
    generation.slots.put_back(slots[0])
    slot = generation.slots.take([(6, 4)])
    assert made.pool.statistics().slabs_used == used
    generation.slots.put_back(slot)


def test_rows_that_depend_on_each_other_run_alone(tmp_path: Path) -> None:
    """A model whose rows see each other is found out, whatever its signature promises."""
    generation = served(tmp_path, across_rows()).table.find(NAME, "")
    assert batch_trial.has_rows(generation.session)
    assert generation.batch_costs is None


@pytest.mark.parametrize(
    "model",
    [
        onnx_models.identity(TensorProto.STRING),
        onnx_models.identity(TensorProto.FLOAT, (1, 4)),
        onnx_models.nonzero(),
    ],
)
def test_other_signatures_run_alone(tmp_path: Path, model: onnx.ModelProto) -> None:
    """Text, a first dimension of one size, and outputs that are not made row by row."""
    generation = served(tmp_path, model).table.find(NAME, "")
    assert generation.batch_costs is None


def test_nothing_is_tried_where_it_was_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with ``batch_max`` 1 costs its load nothing."""

    def refuse(_session: Session) -> bool:
        raise AssertionError

    monkeypatch.setattr(batch_trial, "_rows_stand_alone", refuse)
    made = serving(tmp_path, {NAME: onnx_models.linear(2.0)})
    assert made.table.find(NAME, "").batch_costs is None


def test_a_model_that_fails_with_more_rows_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that refuses two rows is served as before."""

    def fail(*_: object) -> bool:
        raise EngineError("one row only")

    monkeypatch.setattr(batch_trial, "_rows_stand_alone", fail)
    made = served(tmp_path, onnx_models.linear(2.0))
    assert made.table.find(NAME, "").batch_costs is None
    row = np.ones((1, 4), np.float32)
    tensor = GivenTensor(name="x", dtype="float32", shape=row.shape, data=row)
    with made.dispatcher.infer(NAME, "", [tensor]) as answer:
        assert (answer.outputs["y"] == 2).all()
