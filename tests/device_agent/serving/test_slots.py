"""Prebound slots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from device_agent.serving.slots import BoundSlot, SlotCache
from edge_sdk.base import ResourceError
from edge_sdk.engines import EngineError, Session, open_engine
from edge_sdk.tensor_pool import SlabError, TensorPool
from tests.support import onnx_models


def session_of(model: Any, folder: Path) -> Session:
    return open_engine("onnxruntime").load(onnx_models.save(model, folder / "model.onnx"))


def used(pool: TensorPool) -> int:
    return pool.statistics().slabs_used


def test_buffers_stay_where_they_are(tmp_path: Path) -> None:
    """After the first run, input and output have one address for all runs."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(onnx_models.linear(2.0), tmp_path), pool, ((2, 4),))
    slot.inputs["x"][:] = 1
    assert (slot.run()["y"] == 2).all()
    slot.finish()
    addresses = set()
    for value in (3.0, 4.0, 5.0):
        slot.inputs["x"][:] = value
        output = slot.run()["y"]
        assert (output == 2 * value).all()
        addresses.add(output.ctypes.data)
        slot.finish()
    assert len(addresses) == 1
    assert used(pool) == 2
    slot.close()
    assert used(pool) == 0


def test_outputs_made_by_the_engine_are_copied_for_the_request(tmp_path: Path) -> None:
    """Outputs of changing shape lie in slabs that end with the request."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(onnx_models.nonzero(), tmp_path), pool, ((3, 2),))
    for count in (4, 1, 6):
        slot.inputs["x"][:] = 0
        slot.inputs["x"].ravel()[:count] = 1
        outputs = slot.run()
        assert outputs["where"].shape == (2, count)
        assert all(pool.owns(array) for array in outputs.values())
        held = used(pool)
        slot.finish()
        assert used(pool) < held
    slot.close()
    assert used(pool) == 0


def test_a_model_that_breaks_its_promise_is_still_answered(tmp_path: Path) -> None:
    """An output that declares the input's size but depends on the data is answered right."""
    liar = onnx_models.finish(
        [helper.make_node("NonZero", ["x"], ["y"])],
        [onnx_models.value("x", TensorProto.FLOAT, ["n"])],
        [onnx_models.value("y", TensorProto.INT64, [1, "n"])],
    )
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(liar, tmp_path), pool, ((3,),))
    for count in (3, 3, 1, 2, 3):  # the promise comes true twice, and is bound
        slot.inputs["x"][:] = 0
        slot.inputs["x"][:count] = 1
        assert slot.run()["y"].tolist() == [list(range(count))]
        slot.finish()


def test_the_first_run_writes_where_all_others_do(tmp_path: Path) -> None:
    """Promised outputs are bound before it: nothing is made, copied and thrown away for it."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(onnx_models.linear(2.0), tmp_path), pool, ((2, 4),))
    slot.inputs["x"][:] = 1
    first = slot.run()["y"]
    assert used(pool) == 2
    assert first.ctypes.data == slot.run()["y"].ctypes.data
    slot.close()


def test_one_broken_promise_unbinds_one_output(tmp_path: Path) -> None:
    """What keeps its promise beside it stays bound, from the first run on and later."""
    half = onnx_models.finish(
        [helper.make_node("NonZero", ["x"], ["y"]), helper.make_node("Add", ["x", "x"], ["z"])],
        [onnx_models.value("x", TensorProto.FLOAT, ["n"])],
        [
            onnx_models.value("y", TensorProto.INT64, [1, "n"]),
            onnx_models.value("z", TensorProto.FLOAT, ["n"]),
        ],
    )
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(half, tmp_path), pool, ((3,),))
    for count in (1, 3, 0):
        slot.inputs["x"][:] = 0
        slot.inputs["x"][:count] = 1
        outputs = slot.run()
        assert outputs["y"].tolist() == [list(range(count))]
        assert outputs["z"].tolist() == (2 * slot.inputs["x"]).tolist()
        assert list(slot.outputs) == ["z"]
        slot.finish()
    slot.close()
    assert used(pool) == 0


def test_an_answer_outside_of_the_pool_is_a_defect(tmp_path: Path) -> None:
    """In check mode a tensor that lies elsewhere is found, whoever made it."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(onnx_models.linear(2.0), tmp_path), pool, ((2, 4),))
    slot.check(slot.run())
    with pytest.raises(SlabError, match="'y' does not lie in the pool"):
        slot.check({"y": np.ones((2, 4), np.float32)})
    slot.close()


def test_a_failed_first_run_is_not_the_end(tmp_path: Path) -> None:
    """After an engine error in the first run, the slot still becomes prebound."""
    gather = onnx_models.finish(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [onnx_models.value("x", TensorProto.INT64, ["n"])],
        [onnx_models.value("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("table", TensorProto.FLOAT, [3], [0, 1, 2])],
    )
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(gather, tmp_path), pool, ((1,),))
    slot.inputs["x"][:] = 9
    with pytest.raises(EngineError):
        slot.run()
    slot.inputs["x"][:] = 2
    for _ in range(3):
        assert slot.run()["y"][0] == 2
        slot.finish()
    assert set(slot.outputs) == {"y"}


def test_a_slot_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    """When memory for the second input is missing, the first is given back."""
    two = onnx_models.finish(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [
            onnx_models.value("a", TensorProto.FLOAT, ["n"]),
            onnx_models.value("b", TensorProto.FLOAT, ["n"]),
        ],
        [onnx_models.value("y", TensorProto.FLOAT, ["n"])],
    )
    pool = TensorPool(budget_bytes=100_000)
    with pytest.raises(ResourceError):
        BoundSlot(session_of(two, tmp_path), pool, ((20_000,), (20_000,)))
    assert used(pool) == 0


def test_idle_slots_are_found_by_shape_and_old_shapes_leave(tmp_path: Path) -> None:
    """A shape seen before gets its slot back; of twelve shapes, eight are kept."""
    pool = TensorPool(budget_bytes=1 << 20)
    cache = SlotCache(session_of(onnx_models.linear(1.0), tmp_path), pool)
    first = cache.take([(1, 4)])
    cache.put_back(first)
    assert cache.take([(1, 4)]) is first
    assert cache.take([(1, 4)]) is not first
    cache.put_back(first)
    for rows in range(2, 14):
        cache.put_back(cache.take([(rows, 4)]))
    assert len(cache._idle) == 8
    assert cache.take([(1, 4)]) is not first


def test_a_closed_cache_takes_nothing_in(tmp_path: Path) -> None:
    """A slot that comes back after the close is released."""
    pool = TensorPool(budget_bytes=1 << 20)
    cache = SlotCache(session_of(onnx_models.linear(1.0), tmp_path), pool)
    out, idle = cache.take([(1, 4)]), cache.take([(2, 4)])
    cache.put_back(idle)
    cache.close()
    assert used(pool) == 1
    cache.put_back(out)
    assert used(pool) == 0


def test_text_has_no_slab(tmp_path: Path) -> None:
    """Strings are objects of Python: they are neither bound nor in the pool."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slot = BoundSlot(session_of(onnx_models.identity(TensorProto.STRING), tmp_path), pool, ((2,),))
    for texts in (["a", "b"], ["c", ""]):
        slot.inputs["x"][:] = texts
        outputs: Mapping[str, np.ndarray[Any, Any]] = slot.run()
        assert outputs["y"].tolist() == texts
        slot.finish()
    assert used(pool) == 0


def products() -> onnx.ModelProto:
    """Every row with every other: a row of the answer is as long as there are rows."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "N"])
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "products", [x], [y])
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)


def test_rows_may_be_as_long_as_there_are_many(tmp_path: Path) -> None:
    """Where buffers are shared by numbers of rows, an output of rows by rows has room for each."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slots = SlotCache(session_of(products(), tmp_path), pool, rows_max=8)
    for rows in (1, 2, 3, 8, 2, 9):
        slot = slots.take([(rows, 4)])
        slot.inputs["x"][:] = np.arange(rows)[:, None]
        wanted = 4 * np.outer(np.arange(rows), np.arange(rows))
        assert (slot.run()["y"] == wanted).all()
        slots.put_back(slot)
    slots.close()
    assert used(pool) == 0


@pytest.mark.parametrize("rows_max", [1, 4])
def test_idle_buffers_make_room_for_other_shapes(tmp_path: Path, rows_max: int) -> None:
    """Buffers that nobody uses are let go before inputs of another shape are refused."""
    pool = TensorPool(budget_bytes=1 << 20)
    slots = SlotCache(session_of(onnx_models.linear(2.0), tmp_path), pool, rows_max=rows_max)
    for rows in (10_000, 11_000, 12_000, 2, 10_000):
        slot = slots.take([(rows, 4)])
        slot.inputs["x"][:] = rows
        assert (slot.run()["y"] == 2 * rows).all()
        slots.put_back(slot)
    with pytest.raises(ResourceError):
        slots.take([(80_000, 4)])
    assert used(pool) == 0
    slots.put_back(slots.take([(3, 4)]))
    slots.close()
    assert used(pool) == 0


def test_a_slot_that_cannot_be_lent_is_not_lost(tmp_path: Path) -> None:
    """Without memory for its outputs, those of its inputs go back."""
    slots = SlotCache(
        session_of(onnx_models.linear(2.0), tmp_path), pool := TensorPool(budget_bytes=1 << 17)
    )
    with pytest.raises(ResourceError):
        slots.lend([(6_000, 4)], lambda: None)
    slots.close()
    assert used(pool) == 0
