"""ONNX: recognised by what it is, since it has no magic, and walked without loading a tensor.

A file is ONNX if all of it follows the wire format as a ModelProto that has an IR version and
a graph with at least one node, tensor, input or output. Broken bytes are a FormatError,
instead of opaque, where the file begins as every known writer begins one: the IR version
first, then fields of ModelProto up to a graph that begins with a field of GraphProto.
Everything that is well-formed but wrong (shapes, external data) is a FormatError in any ONNX
file.
"""

from __future__ import annotations

from pathlib import Path

from edge_sdk.formats.model_file import Contents, Format, ModelFile, open_file
from edge_sdk.formats.onnx_graph import GraphWalk
from edge_sdk.formats.onnx_tensor import place
from edge_sdk.formats.onnx_value import read_opset, read_value
from edge_sdk.formats.tensor_map import ModelFacts
from edge_sdk.formats.wire import LEN, VARINT, Wire, WireError, signed, tag_of

_IR_VERSION = tag_of(1, VARINT)
_GRAPH = tag_of(7, LEN)
_OPSET = tag_of(8, LEN)
_TRAINING = tag_of(20, LEN)
_FUNCTION = tag_of(25, LEN)
_WANTED = frozenset({_IR_VERSION, _GRAPH, _OPSET, _TRAINING, _FUNCTION})
_IR_VERSION_MAX = 255

# What stands before the graph (producer, domain, version, text), and what a graph begins with.
_BEFORE_GRAPH = frozenset({tag_of(5, VARINT), *(tag_of(number, LEN) for number in (2, 3, 4, 6))})
_IN_GRAPH = frozenset(tag_of(number, LEN) for number in (1, 2, 5, 10, 11, 12, 13, 14, 15, 16))


def read(file: ModelFile) -> Contents | None:
    """Facts and tensor ranges of an ONNX model; None where the file is something else.

    Raises: FormatError (facts ``offset``, and ``tensor`` where one is to blame).
    """
    walk = GraphWalk(file, Wire(file))
    try:
        model = _walk_model(file, walk)
    except WireError:
        if _begins_as_onnx(file):
            raise
        return None
    if model is None:
        return None
    if walk.problem:
        raise walk.problem
    tensors, external_files = place(file, walk.tensors)
    return Contents(tensors=tensors, external_files=external_files, facts=_facts(walk, model))


def external_locations(path: Path) -> frozenset[str]:
    """The files that an ONNX model names for its tensors, as it spells them; none where the file
    is something else. Raises: FormatError (a model that cannot be read), NotFoundError."""
    with open_file(path) as file:
        walk = GraphWalk(file, Wire(file))
        try:
            model = _walk_model(file, walk)
        except WireError:
            if _begins_as_onnx(file):
                raise
            return frozenset()
        if model is not None and walk.problem:
            raise walk.problem
        entries = [entry for tensor in walk.tensors for entry in tensor.entries]
        return frozenset(value for key, value in entries if key == "location")


class _Model:
    """The fields of ModelProto that matter, as found on the way."""

    def __init__(self) -> None:
        self.ir_version = 0
        self.opsets: dict[str, int] = {}
        self.graphs = 0


def _walk_model(file: ModelFile, walk: GraphWalk) -> _Model | None:
    """Walks all of the file. None where it cannot be a model. Raises: WireError."""
    model = _Model()
    for field in walk.wire.fields(0, file.size_bytes, _WANTED):
        if field.tag == _IR_VERSION:
            model.ir_version = signed(field.value)
        elif field.tag == _GRAPH:
            model.graphs += 1
            if model.graphs == 2:
                walk.report(field.start, "a second graph")
            walk.add_graph(field, main=True)
        elif field.tag == _OPSET:
            domain, version = read_opset(walk.wire, field, walk.text)
            model.opsets[domain] = max(version, model.opsets.get(domain, 0))
        elif field.tag == _TRAINING:
            walk.add_training(field)
        else:
            walk.add_function(field)
    walk.finish()
    is_model = 1 <= model.ir_version <= _IR_VERSION_MAX and model.graphs and walk.main_fields
    return model if is_model else None


def _facts(walk: GraphWalk, model: _Model) -> ModelFacts:
    """Before IR version 4 every initializer is listed among the inputs too: those are none."""
    inputs = [read_value(walk.wire, field, walk.text) for field in walk.inputs]
    outputs = [read_value(walk.wire, field, walk.text) for field in walk.outputs]
    if walk.problem:
        raise walk.problem
    return ModelFacts(
        inputs=tuple(fact for fact in inputs if fact.name not in walk.initializers),
        outputs=tuple(outputs),
        ir_version=model.ir_version,
        opsets=model.opsets,
    )


def _begins_as_onnx(file: ModelFile) -> bool:
    wire = Wire(file, fields_max=64)
    end = file.size_bytes
    try:
        first = wire.field_at(0, end)
        if first.tag != _IR_VERSION or not 1 <= first.value <= _IR_VERSION_MAX:
            return False
        field = wire.field_at(first.end, end)
        while field.tag in _BEFORE_GRAPH:
            field = wire.field_at(field.end, end)
        return field.tag == _GRAPH and wire.field_at(field.start, end).tag in _IN_GRAPH
    except WireError:
        return False


FORMAT = Format(name="onnx", read=read)
