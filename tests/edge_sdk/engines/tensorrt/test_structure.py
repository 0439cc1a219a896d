"""What of a model has to be the same for a plan of another to be refitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.engines.tensorrt.structure import structure_of
from edge_sdk.formats import open_model
from tests.support import onnx_models


def structure(model: onnx.ModelProto, folder: Path, *, external: str | None = None) -> str:
    return structure_of(open_model(onnx_models.save(model, folder / "m.onnx", external=external)))


@pytest.mark.parametrize("external", [None, "weights.bin"])
def test_only_weights_may_differ(tmp_path: Path, external: str | None) -> None:
    """The same graph with other weights has the same structure, in one file or in two."""
    one = structure(onnx_models.mlp(seed=1), tmp_path / "1", external=external)
    two = structure(onnx_models.mlp(seed=2), tmp_path / "2", external=external)
    assert one == two
    assert len(one) == 64


def test_another_operator_or_size_counts(tmp_path: Path) -> None:
    """Names, operators, shapes."""
    plain = structure(onnx_models.linear(1.0), tmp_path / "1")
    wider = structure(onnx_models.linear(1.0, features=5), tmp_path / "2")
    changed = onnx_models.linear(1.0)
    changed.graph.node[1].op_type = "Sub"
    renamed = onnx_models.linear(1.0)
    renamed.graph.name = "other"
    others = [wider, structure(changed, tmp_path / "3"), structure(renamed, tmp_path / "4")]
    assert plain not in others


@pytest.mark.parametrize("external", [None, "weights.bin"])
@pytest.mark.parametrize(
    "values", [np.array([2, 2], np.int64), np.array([2.0], np.float32), np.float32(2.0)]
)
def test_values_that_a_plan_takes_in_count(
    tmp_path: Path, values: np.ndarray, external: str | None
) -> None:
    """Integers are shapes and indices, single floats bounds: other values, another structure."""
    found = set()
    for number, factor in enumerate((1, 2)):
        model = onnx_models.finish(
            [helper.make_node("Identity", ["c"], ["y"])],
            [],
            [onnx_models.value("y", helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)],
            [numpy_helper.from_array(np.asarray(values * factor, values.dtype), "c")],
        )
        found.add(structure(model, tmp_path / str(number), external=external))
    assert len(found) == 2


def test_a_quantised_model_has_none(tmp_path: Path) -> None:
    """Its scales are worked into a plan: such a model is always built anew."""
    model = onnx_models.finish(
        [helper.make_node("DequantizeLinear", ["w", "scale"], ["y"])],
        [],
        [onnx_models.value("y", TensorProto.FLOAT, [4])],
        [
            numpy_helper.from_array(np.arange(4, dtype=np.int8), "w"),
            numpy_helper.from_array(np.array(0.5, np.float32), "scale"),
        ],
    )
    assert structure(model, tmp_path) == ""
