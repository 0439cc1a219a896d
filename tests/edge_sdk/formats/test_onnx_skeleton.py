"""ONNX models whose weights are named where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from edge_sdk.formats import TensorRange, onnx_skeleton, open_model
from tests.support import onnx_models


def skeleton(path: Path, *, bytes_min: int = 1) -> onnx.ModelProto:
    """With every tensor outside that has a range in the file."""
    ranges = frozenset(one for one in open_model(path).tensors if one.length >= bytes_min)
    return onnx.load_from_string(onnx_skeleton(path, ranges))


def whole(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model with its external data read, as the onnx package reads it."""
    external_data_helper.load_external_data_for_model(model, str(folder))
    for tensor in model.graph.initializer:
        tensor.ClearField("data_location")
    return model


def outside(model: onnx.ModelProto) -> set[str]:
    return {
        one.name for one in model.graph.initializer if one.data_location == TensorProto.EXTERNAL
    }


def weights(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), max_size=6),
    bytes_min=st.integers(1, 400),
    text=st.text(max_size=20),
)
def test_a_skeleton_with_its_data_is_the_model(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[int, ...]],
    bytes_min: int,
    text: str,
) -> None:
    """Whatever leaves it, read back from the file it is the same model, and the file is as it was."""
    folder = tmp_path_factory.mktemp("model")
    random = np.random.default_rng(0)
    model = onnx_models.linear(2.0)
    model.graph.initializer.extend(
        weights(random, f"w{number}", shape) for number, shape in enumerate(shapes)
    )
    model.doc_string = text
    path = onnx_models.save(model, folder / "größe 1.onnx")
    before = path.read_bytes()
    made = skeleton(path, bytes_min=bytes_min)
    assert outside(made) == {
        one.name for one in model.graph.initializer if len(one.raw_data) >= bytes_min
    }
    assert whole(made, folder) == model
    assert path.read_bytes() == before


def test_what_has_no_bytes_of_its_own_stays_inside(tmp_path: Path) -> None:
    """Strings, lists of numbers, sparse tensors, constants of nodes and weights of subgraphs."""
    random = np.random.default_rng(1)
    inner = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["r"])],
        "branch",
        [],
        [onnx_models.value("r", TensorProto.FLOAT, [5])],
        [weights(random, "inner", (5,))],
    )
    model = onnx_models.finish(
        [
            helper.make_node("Constant", [], ["c"], value=weights(random, "constant", (5,))),
            helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
        ],
        [onnx_models.value("yes", TensorProto.BOOL, [])],
        [onnx_models.value("y", TensorProto.FLOAT, [5])],
        [
            helper.make_tensor("texts", TensorProto.STRING, [2], [b"a", b"b"]),
            helper.make_tensor("listed", TensorProto.FLOAT, [5], [1, 2, 3, 4, 5]),
            helper.make_tensor("varied", TensorProto.INT64, [2], [7, 8]),
            weights(random, "plain", (5,)),
        ],
    )
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            weights(random, "sparse", (2,)),
            numpy_helper.from_array(np.array([0, 3], np.int64), "at"),
            [5],
        )
    )
    path = onnx_models.save(model, tmp_path / "model.onnx")
    made = skeleton(path)
    assert outside(made) == {"plain"}
    assert whole(made, tmp_path) == model


def test_data_that_is_external_already_stays_where_it_is(tmp_path: Path) -> None:
    """Tensors beside the model are passed over, those inside it leave it."""
    path = onnx_models.save(onnx_models.linear(4.0), tmp_path / "m.onnx", external="weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer.append(weights(np.random.default_rng(2), "inside", (9,)))
    path.write_bytes(model.SerializeToString())
    made = skeleton(path)
    places = {
        one.name: {entry.key: entry.value for entry in one.external_data}["location"]
        for one in made.graph.initializer
    }
    assert places == {"scale": "weights.bin", "bias": "weights.bin", "inside": "m.onnx"}


def test_a_tensor_whose_bytes_are_given_twice_stays(tmp_path: Path) -> None:
    """protobuf takes the second; nobody need guess whether others do."""
    model = onnx_models.linear(2.0)
    path = onnx_models.save(model, tmp_path / "model.onnx")
    tensor = model.graph.initializer[0].SerializeToString()
    twice = onnx.TensorProto(raw_data=bytes(16)).SerializeToString() + tensor
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.initializer[0]
    coded = bytes([5 << 3 | 2, len(twice)]) + twice
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    content = graph.SerializeToString() + coded
    head = bytes([7 << 3 | 2, len(content) & 0x7F | 0x80, len(content) >> 7])
    path.write_bytes(rest.SerializeToString() + head + content)
    assert outside(skeleton(path)) == {"bias"}


def test_nothing_named_changes_nothing(tmp_path: Path) -> None:
    """Without tensors to leave it, and for ranges of other files, it is the file."""
    path = onnx_models.save(onnx_models.mlp(), tmp_path / "model.onnx")
    assert onnx_skeleton(path, frozenset()) == path.read_bytes()
    other = TensorRange(name="w", dtype="float32", shape=(4,), file="w.bin", offset=0, length=16)
    assert onnx_skeleton(path, frozenset({other})) == path.read_bytes()
