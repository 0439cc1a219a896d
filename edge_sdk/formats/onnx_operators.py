"""Which operators an ONNX model uses beyond those that it defines itself, wherever they stand.

Nodes of the graph, of graphs within attributes, and of functions; nothing recurses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.wire import LEN, VARINT, Field, Wire, tag_of

Operator = tuple[str, str]  # domain ("": the standard one), type

_IR_VERSION, _GRAPH = tag_of(1, VARINT), tag_of(7, LEN)
_OPSET, _FUNCTION = tag_of(8, LEN), tag_of(25, LEN)
_MODEL_WANTED = frozenset({_IR_VERSION, _GRAPH, _OPSET, _FUNCTION})
_FUNCTION_NAME, _FUNCTION_NODE = tag_of(1, LEN), tag_of(7, LEN)
_FUNCTION_DOMAIN = tag_of(10, LEN)
_FUNCTION_WANTED = frozenset({_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN})
_GRAPH_NODE = tag_of(1, LEN)
_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = tag_of(4, LEN), tag_of(5, LEN), tag_of(7, LEN)
_NODE_WANTED = frozenset({_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN})
_ATTRIBUTE_GRAPHS = frozenset({tag_of(6, LEN), tag_of(11, LEN)})
_STANDARD = "ai.onnx"


class OnnxModel(NamedTuple):
    """Where the parts of a model lie."""

    wire: Wire
    graphs: tuple[Field, ...]
    functions: tuple[Field, ...]


def find_onnx(file: ModelFile) -> OnnxModel | None:
    """None where the file is something else. Raises: FormatError."""
    wire = Wire(file)
    found = tuple(wire.fields(0, file.size_bytes, _MODEL_WANTED))
    if not {_IR_VERSION, _GRAPH, _OPSET} <= {one.tag for one in found}:
        return None
    return OnnxModel(
        wire=wire,
        graphs=tuple(one for one in found if one.tag == _GRAPH),
        functions=tuple(one for one in found if one.tag == _FUNCTION),
    )


def operators_used(model: OnnxModel) -> set[Operator]:
    """Those of all nodes, less what the model's own functions define. A domain that is imported
    and of which nothing is used, as exporters leave them behind, counts for nothing.

    Raises: FormatError.
    """
    wire = model.wire
    own: set[Operator] = set()
    nodes = [node for one in model.graphs for node in _nodes(wire, one)]
    for function in model.functions:
        parts = [*wire.fields(function.start, function.end, _FUNCTION_WANTED)]
        nodes += (one for one in parts if one.tag == _FUNCTION_NODE)
        names = [_text(wire, one) for one in parts if one.tag == _FUNCTION_NAME]
        domains = [_text(wire, one) for one in parts if one.tag == _FUNCTION_DOMAIN]
        if len(names) == len(domains) == 1:  # said twice it would be another to another reader
            own.add((domains[0], names[0]))
    return set(_used(wire, nodes)) - own


def _used(wire: Wire, nodes: list[Field]) -> Iterator[Operator]:
    """Of these nodes, and of all that stand in graphs within them."""
    while nodes:
        node = nodes.pop()
        types, domains = [], []
        for part in wire.fields(node.start, node.end, _NODE_WANTED):
            if part.tag == _NODE_TYPE:
                types.append(_text(wire, part))
            elif part.tag == _NODE_DOMAIN:
                domains.append(_text(wire, part))
            else:
                for graph in wire.fields(part.start, part.end, _ATTRIBUTE_GRAPHS):
                    nodes += _nodes(wire, graph)
        yield from ((domain, one) for domain in domains or [""] for one in types)


def _nodes(wire: Wire, graph: Field) -> Iterator[Field]:
    return wire.fields(graph.start, graph.end, frozenset({_GRAPH_NODE}))


def _text(wire: Wire, field: Field) -> str:
    text = wire.content(field).decode("utf-8", "replace")
    return "" if text == _STANDARD else text
