"""Every place of an ONNX model where a tensor can stand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.base import FormatError
from edge_sdk.formats import TensorMap, onnx_graph, open_model
from tests.support.onnx_models import OPSET, finish, save, value
from tests.support.tensor_maps import opened
from tests.support.wire_bytes import message, number, onnx_external, onnx_model, onnx_tensor


def array(seed: int, count: int = 3) -> Any:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def tensor(seed: int, name: str = "") -> Any:
    return numpy_helper.from_array(array(seed), name)


def named(found: TensorMap) -> dict[str, bytes]:
    content = found.path.read_bytes()
    return {one.name: content[one.offset : one.end] for one in found.tensors}


def branch(seed: int, *, nodes: Any = ()) -> Any:
    """A subgraph with an initializer and a Constant."""
    return helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor(seed + 1)), *nodes],
        "branch",
        [],
        [value("c", TensorProto.FLOAT, [3])],
        [tensor(seed, "w")],
    )


def test_tensors_of_subgraphs_are_found_by_qualified_names(tmp_path: Path) -> None:
    """Both branches of an If, an If inside one of them, and Constant nodes everywhere."""
    inner = helper.make_node("If", ["cond"], ["z"], then_branch=branch(10), else_branch=branch(20))
    outer = helper.make_node(
        "If", ["cond"], ["y"], then_branch=branch(30, nodes=[inner]), else_branch=branch(40)
    )
    model = finish(
        [outer],
        [value("cond", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, [3])],
        [tensor(50, "w")],
    )
    found = named(open_model(save(model, tmp_path / "m")))
    wanted = {
        "w": 50,
        "y.then_branch/w": 30,
        "y.then_branch/c.value": 31,
        "y.else_branch/w": 40,
        "y.else_branch/c.value": 41,
        "y.then_branch/z.then_branch/w": 10,
        "y.then_branch/z.then_branch/c.value": 11,
        "y.then_branch/z.else_branch/w": 20,
        "y.then_branch/z.else_branch/c.value": 21,
    }
    assert found == {name: array(seed).tobytes() for name, seed in wanted.items()}


def test_lists_of_tensors_and_graphs_in_attributes_are_found(tmp_path: Path) -> None:
    """Attributes of type TENSORS, GRAPHS and SPARSE_TENSORS, numbered."""
    node = helper.make_node("Custom", [], ["y"], domain="x")
    node.attribute.append(helper.make_attribute("many", [tensor(1), tensor(2)]))
    node.attribute.append(helper.make_attribute("bodies", [branch(3)]))
    sparse = helper.make_sparse_tensor(tensor(5, "v"), numpy_helper.from_array(np.arange(3)), [9])
    node.attribute.append(helper.make_attribute("thin", [sparse]))
    node.attribute.append(helper.make_attribute("one", sparse))
    found = named(open_model(save(finish([node], [], []), tmp_path / "m")))
    assert found == {
        "y.many[0]": array(1).tobytes(),
        "y.many[1]": array(2).tobytes(),
        "y.bodies[0]/w": array(3).tobytes(),
        "y.bodies[0]/c.value": array(4).tobytes(),
        "y.thin[0]": array(5).tobytes(),
        "y.thin[0].indices": np.arange(3).tobytes(),
        "y.one": array(5).tobytes(),
        "y.one.indices": np.arange(3).tobytes(),
    }


def test_sparse_initializers_are_two_tensors(tmp_path: Path) -> None:
    """Values under the initializer's name, and the places where they stand."""
    model = finish([], [], [value("y", TensorProto.FLOAT, [3])])
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(tensor(1, "thin"), numpy_helper.from_array(np.arange(3)), [9])
    )
    found = named(open_model(save(model, tmp_path / "m")))
    assert found == {"thin": array(1).tobytes(), "thin.indices": np.arange(3).tobytes()}


def test_functions_and_training_graphs_are_walked(tmp_path: Path) -> None:
    """Nodes of functions, defaults of their attributes, graphs that initialise or train."""
    model = finish([], [], [value("y", TensorProto.FLOAT, [3])])
    function = helper.make_function(
        "local", "Scale", ["x"], ["c"],
        [helper.make_node("Constant", [], ["c"], value=tensor(1))],
        [helper.make_opsetid("", OPSET)],
    )  # fmt: skip
    function.attribute_proto.append(helper.make_attribute("by", tensor(2)))
    model.functions.append(function)
    training = model.training_info.add()
    training.initialization.CopyFrom(branch(3))
    training.algorithm.CopyFrom(branch(5))
    found = named(open_model(save(model, tmp_path / "m")))
    assert found == {
        "local::Scale/c.value": array(1).tobytes(),
        "local::Scale/.by": array(2).tobytes(),
        "training1/w": array(3).tobytes(),
        "training1/c.value": array(4).tobytes(),
        "training2/w": array(5).tobytes(),
        "training2/c.value": array(6).tobytes(),
    }


def nested(depth: int) -> bytes:
    """The fields of a graph: ``depth`` graphs inside each other, a tensor in the innermost."""
    graph = message(5, onnx_tensor(message(9, bytes(8)), shape=(2,)))
    for _turn in range(depth):
        graph = message(1, message(5, message(1, b"g"), message(6, graph)))
    return graph


def test_graphs_nest_as_deep_as_protobuf_reads_them(tmp_path: Path) -> None:
    """At 31 deep the onnx package still parses; so do we, and find the tensor."""
    content = onnx_model(nested(31))
    onnx.load_model_from_string(content)
    (one,) = opened(tmp_path, content).tensors
    assert one.length == 8


@pytest.mark.parametrize("depth", [33, 5000])
def test_deeper_graphs_are_refused_without_recursion(tmp_path: Path, depth: int) -> None:
    """A bomb of nested graphs is a FormatError, never a RecursionError."""
    with pytest.raises(FormatError, match="nested more than"):
        opened(tmp_path, onnx_model(nested(depth)))


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        (message(1, message(5, message(5, b""), message(5, b""))), "given twice"),
        (message(1, message(5, message(6, b""), message(6, b""))), "given twice"),
        (message(15, message(1, b""), message(1, b"")), "given twice"),
        (message(5, message(8, b"\xff")), "not UTF-8"),
        (message(5, message(8, b"n" * 5000)), "more than 4096 bytes"),
    ],
)
def test_well_formed_but_hostile_graphs_are_refused(
    tmp_path: Path, graph: bytes, what: str
) -> None:
    """What protobuf would merge, read anyhow, or hold in far too much memory."""
    with pytest.raises(FormatError, match=what):
        opened(tmp_path, onnx_model(graph))


def test_more_tensors_than_any_model_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes memory here is counted: tensors, graphs, inputs and outputs."""
    monkeypatch.setattr(onnx_graph, "_ITEMS_MAX", 100)
    for part in (
        message(5),
        message(11),
        message(1, message(5, message(11))),
        message(15, message(2)),
    ):
        assert opened(tmp_path, onnx_model(part * 100)).format == "onnx"
        with pytest.raises(FormatError, match="more than 100 tensors"):
            opened(tmp_path, onnx_model(part * 101))


def test_a_tensor_split_in_two_hides_nothing(tmp_path: Path) -> None:
    """protobuf merges two ``t`` into one tensor with external data that neither part shows."""
    location = onnx_external(location="../secret")[: -len(number(14, 1))]
    node = message(1, message(5, message(5, location), message(5, number(14, 1))))
    content = onnx_model(node)
    merged = onnx.load_model_from_string(content).graph.node[0].attribute[0].t
    assert merged.data_location == TensorProto.EXTERNAL
    with pytest.raises(FormatError, match="twice"):
        opened(tmp_path, content)


@pytest.mark.unmeasured
def test_names_do_not_multiply_into_memory(tmp_path: Path) -> None:
    """A long name around very many tensors is refused once all names are 64 MiB, and around
    very many graphs it is kept once."""
    graphs = message(
        1, message(2, b"o" * 4000), message(5, message(1, b"g" * 4000), message(11) * 20_000)
    )
    tracemalloc.start()
    assert opened(tmp_path, onnx_model(graphs)).tensors == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    tiny = message(5, onnx_tensor(message(9, bytes(4)), shape=()))
    inner = message(
        1, message(2, b"o" * 4000), message(5, message(1, b"g"), message(6, tiny * 20_000))
    )
    with pytest.raises(FormatError, match="names too long"):
        opened(tmp_path, onnx_model(inner))


def test_tensors_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Names are unique within a map even where the model is not."""
    twice = message(5, onnx_tensor(message(9, bytes(8)), shape=(2,))) * 2
    assert [one.name for one in opened(tmp_path, onnx_model(twice)).tensors] == ["w", "w#2"]
