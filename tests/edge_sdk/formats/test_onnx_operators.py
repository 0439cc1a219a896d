"""Every node of an ONNX model is seen, as onnx itself reads it, and damage is an error of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edge_sdk.base import FormatError
from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.onnx_operators import find_onnx, operators_used
from tests.support import onnx_models


def used(data: bytes) -> set[tuple[str, str]] | None:
    file = ModelFile(path=Path("m"), data=data, size_bytes=len(data))  # type: ignore[arg-type]
    model = find_onnx(file)
    return None if model is None else operators_used(model)


def nested() -> onnx.ModelProto:
    """Branches in branches, a function that the model has, and one of the same domain that it
    lacks."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    node = helper.make_node("Missing", ["x"], ["y"], domain="own")
    for name in ("inner", "outer"):
        branch = helper.make_graph(
            [node, helper.make_node("Has", ["x"], ["z"], domain="own")], name, [], []
        )
        other = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], name, [], [])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)
    body = [helper.make_node("Relu", ["a"], ["b"], domain="ai.onnx")]
    function = helper.make_function("own", "Has", ["a"], ["b"], body, opsets)
    return helper.make_model(
        helper.make_graph([node], "g", [], []), opset_imports=opsets, functions=[function]
    )


def by_onnx(model: onnx.ModelProto) -> set[tuple[str, str]]:
    def walk(nodes: Iterator[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
        for node in nodes:
            yield node.domain.replace("ai.onnx", ""), node.op_type
            for attribute in node.attribute:
                for graph in (
                    *([attribute.g] if attribute.HasField("g") else []),
                    *attribute.graphs,
                ):
                    yield from walk(iter(graph.node))

    found = set(walk(iter(model.graph.node)))
    for one in model.functions:
        found |= set(walk(iter(one.node)))
    return found - {(one.domain, one.name) for one in model.functions}


@pytest.mark.parametrize(
    "make",
    [
        nested,
        onnx_models.nonzero,
        onnx_models.sequence,
        onnx_models.remembering,
        lambda: onnx_models.mlp((8, 4, 2)),
    ],
)
def test_all_nodes_are_seen(make: Callable[[], onnx.ModelProto]) -> None:
    """Those that onnx sees, functions of the model's own apart."""
    model = make()
    assert used(model.SerializeToString()) == by_onnx(model) != set()


def test_what_is_no_model() -> None:
    """Other messages, and nothing at all."""
    assert used(b"") is None
    assert used(onnx_models.linear(1.0).graph.SerializeToString()) is None


def test_a_function_with_two_names_defines_nothing() -> None:
    """One reader would take the first, another the last."""
    model = nested()
    data = model.SerializeToString()
    assert ("own", "Has") not in (used(data) or ())
    twice = model.functions[0].SerializeToString() + b"\x0a\x05Other"
    del model.functions[:]
    field = b"\xca\x01" + bytes([len(twice)]) + twice  # number 25
    assert ("own", "Has") in (used(model.SerializeToString() + field) or ())


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damage_is_an_error_of_ours(data: st.DataObject) -> None:
    """Cut, or with bytes changed, there is an answer or FormatError."""
    changed = bytearray(nested().SerializeToString())
    for _ in range(data.draw(st.integers(0, 5))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FormatError):
        used(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
