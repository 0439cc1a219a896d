"""ONNX: recognised, read in place, and told from what only resembles it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.base import FormatError
from edge_sdk.formats import open_model
from tests.support.onnx_models import finish, linear, mlp, save, value
from tests.support.tensor_maps import opened
from tests.support.wire_bytes import message, number, onnx_model, onnx_tensor, varint


def refused(tmp_path: Path, content: bytes) -> FormatError:
    with pytest.raises(FormatError) as error:
        opened(tmp_path, content)
    assert 0 <= error.value.facts["offset"] <= len(content)
    assert error.value.facts["file"] == str(tmp_path / "model.bin")
    return error.value


def outcome(tmp_path: Path, content: bytes) -> str:
    try:
        return opened(tmp_path, content).format
    except FormatError as error:
        assert error.facts["offset"] <= len(content)
        return "refused"


def test_ranges_are_the_librarys_raw_data(tmp_path: Path) -> None:
    """Each range holds exactly the bytes that the onnx package gives for that initializer."""
    path = save(mlp(), tmp_path / "model.bin")
    found = open_model(path)
    content = path.read_bytes()
    model = onnx.load(str(path))
    assert (found.format, found.external_files, found.size_bytes) == ("onnx", (), len(content))
    assert len(found.tensors) == len(model.graph.initializer)
    for one in found.tensors:
        stored = next(t for t in model.graph.initializer if t.name == one.name)
        assert (one.dtype, one.shape, one.file) == ("float32", tuple(stored.dims), "model.bin")
        assert content[one.offset : one.end] == stored.raw_data


def test_facts_are_the_models(tmp_path: Path) -> None:
    """IR version, operator sets by domain, inputs and outputs with dynamic dimensions as -1."""
    model = helper.make_model(
        linear(2.0).graph,
        ir_version=9,
        opset_imports=[
            helper.make_opsetid("ai.onnx", 20),
            helper.make_opsetid("com.microsoft", 1),
            helper.make_opsetid("", 19),
        ],
    )
    facts = open_model(save(model, tmp_path / "m")).facts
    assert facts is not None
    assert (facts.ir_version, facts.opsets) == (9, {"": 20, "com.microsoft": 1})
    assert [(one.name, one.dtype, one.shape) for one in facts.inputs] == [("x", "float32", (-1, 4))]
    assert [(one.name, one.dtype, one.shape) for one in facts.outputs] == [
        ("y", "float32", (-1, 4))
    ]


def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    """Old models list every initializer, also a sparse one, among the inputs."""
    model = linear(2.0)
    for tensor in model.graph.initializer:
        model.graph.input.append(value(tensor.name, TensorProto.FLOAT, [4]))
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "thin"),
        numpy_helper.from_array(np.zeros(1, np.int64), "places"),
        [4],
    )
    model.graph.sparse_initializer.append(sparse)
    model.graph.input.append(value("thin", TensorProto.FLOAT, [4]))
    facts = open_model(save(model, tmp_path / "m")).facts
    assert facts is not None
    assert [one.name for one in facts.inputs] == ["x"]


def test_a_model_is_one_in_any_order_of_fields(tmp_path: Path) -> None:
    """protobuf allows any order; where all of the file parses, the order does not matter."""
    graph = message(7, message(5, onnx_tensor(message(9, bytes(8)), shape=(2,))))
    found = opened(tmp_path, graph + number(1, 8))
    assert (found.format, [one.length for one in found.tensors]) == ("onnx", [8])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        b"\x08\x0a",
        b"plain text, long enough to hold a few fields",
        bytes(100),
        b"\x08" * 5000,
        number(1, 8),
        number(1, 8) + message(7),
        message(7, message(1)),
        number(1, 8) + message(7, message(2, b"only a name")),
        number(1, 0) + message(7, message(1)),
        number(1, 256) + message(7, message(1)),
        number(1, 1) + message(2, b"a TensorFlow SavedModel has these two"),
        message(7, message(1, b"")) + number(1, 8) + b"\x0a\xff",
        number(1, 8) + b"\x3a",
        number(1, 8) + b"\x3a\xff\x01",
    ],
    ids=repr,
)
def test_what_only_resembles_a_model_is_opaque(tmp_path: Path, content: bytes) -> None:
    """No IR version, no graph or an empty one, or broken before a graph has begun."""
    assert opened(tmp_path, content).format == "opaque"


def test_every_truncation_of_a_model_is_noticed(tmp_path: Path) -> None:
    """From the graph's first field on a cut is a FormatError; cuts between the last fields of
    a model leave a whole, smaller one, as protobuf's own parser sees it."""
    content = mlp((4, 3, 2)).SerializeToString()
    outcomes = [outcome(tmp_path, content[:length]) for length in range(len(content))]
    graph = content.index(b"\x3a") + 5  # tag and two bytes of length, tag and length of a node
    assert set(outcomes[:graph]) == {"opaque"}
    end = len(content) - len(message(8, message(1), number(2, 21)))
    assert set(outcomes[graph:end]) == {"refused"}
    assert outcomes[end] == "onnx"
    assert set(outcomes[end + 1 :]) == {"refused"}


def test_trailing_bytes_are_refused(tmp_path: Path) -> None:
    """A model with rubbish behind it does not parse, and begins as a model: an error there."""
    content = mlp().SerializeToString()
    assert refused(tmp_path, content + b"\0\0").facts["offset"] == len(content)


def test_two_graphs_are_refused(tmp_path: Path) -> None:
    """protobuf would merge them into one that stands nowhere in the file."""
    content = onnx_model(message(1)) + message(7, message(1))
    assert "second graph" in refused(tmp_path, content).message


def test_well_formed_but_wrong_is_refused_in_any_order(tmp_path: Path) -> None:
    """What is wrong with a tensor is an error also where the file does not begin as usual."""
    graph = message(7, message(5, onnx_tensor(message(9, bytes(7)), shape=(2,))))
    error = refused(tmp_path, graph + number(1, 8))
    assert error.facts["tensor"] == "w"


def test_the_walk_does_not_read_tensors(tmp_path: Path) -> None:
    """500 MB of weights in 500 tensors and 2,000 nodes take well below a second."""
    million = 1_000_000
    tensors = [
        message(5, onnx_tensor(name=f"w{turn}", shape=(million // 4,)) + b"\x4a" + varint(million))
        for turn in range(500)
    ]
    # Each header promises a million bytes more than are written before the hole that holds them.
    headers = [b"\x2a" + varint(len(tensor) - 2 + million) + tensor[2:] for tensor in tensors]
    nodes = b"".join(
        message(1, helper.make_node("Add", ["a", "b"], [f"c{turn}"], axis=1).SerializeToString())
        for turn in range(2000)
    )
    path = tmp_path / "large"
    graph_bytes = sum(len(header) + million for header in headers) + len(nodes)
    with path.open("wb") as stream:
        stream.write(number(1, 10) + b"\x3a" + varint(graph_bytes) + nodes)
        for header in headers:
            stream.write(header)
            stream.seek(million, 1)
        stream.truncate()
    before = time.thread_time()  # reading counts, waiting for a processor does not
    found = open_model(path)
    elapsed_s = time.thread_time() - before
    assert (len(found.tensors), found.format) == (500, "onnx")
    assert found.size_bytes > 500 * million
    assert elapsed_s < 1


def test_a_tensor_over_2_gib_is_found(tmp_path: Path) -> None:
    """Lengths are 64-bit here, although protobuf itself stops at 2 GiB (sparse file)."""
    size = 3 << 30
    tensor = onnx_tensor(shape=(size // 4,)) + b"\x4a" + varint(size)
    initializer = b"\x2a" + varint(len(tensor) + size) + tensor
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.write(number(1, 10) + b"\x3a" + varint(len(initializer) + size) + initializer)
        start = stream.tell()
        stream.truncate(start + size)
    (one,) = open_model(path).tensors
    assert (one.offset, one.length) == (start, size)


def test_a_model_without_weights_is_one(tmp_path: Path) -> None:
    """A graph needs no initializers."""
    model = finish(
        [helper.make_node("Relu", ["x"], ["y"])],
        [value("x", TensorProto.FLOAT16, [2])],
        [value("y", TensorProto.FLOAT16, [2])],
    )
    found = open_model(save(model, tmp_path / "m"))
    assert (found.format, found.tensors) == ("onnx", ())
