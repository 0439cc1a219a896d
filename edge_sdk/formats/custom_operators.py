"""Operators of flatbuffer models that no engine has by itself: whoever runs them loads a library.

TFLite names them as custom, ONNX Runtime's own format (.ort) by a domain. Every subgraph is
looked into; what cannot be read raises, so that nobody takes silence for an answer.
Sources: schema.fbs of LiteRT, ort.fbs of ONNX Runtime (field numbers below are their order).
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.formats.flatbuffer import VISITS_MAX, FlatBuffer, Table
from edge_sdk.formats.model_file import ModelFile

TFLITE = b"TFL3"
ORT = b"ORTM"
_IDENTIFIER_AT = 4

# Those that LiteRT registers with the builtin ones.
_KNOWN_CUSTOM = frozenset(
    {"AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess"}
)
_CUSTOM = 32  # of BuiltinOperator
_MODEL_CODES = 1
_CODE_DEPRECATED, _CODE_NAME, _CODE_BUILTIN = 0, 1, 3

_SESSION_MODEL = 1
_MODEL_GRAPH = 7
_GRAPH_NODES = 2
_NODE_DOMAIN, _NODE_TYPE, _NODE_ATTRIBUTES = 2, 5, 10
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 7, 12


def is_kind(file: ModelFile, identifier: bytes) -> bool:
    """Whether a flatbuffer of this kind begins the file, as those look that load it."""
    return file.data[_IDENTIFIER_AT : _IDENTIFIER_AT + len(identifier)] == identifier


def tflite_operators(file: ModelFile, start: int = 0, visits: int = VISITS_MAX) -> list[str]:
    """Custom operators of the TFLite model that begins at ``start``; those that LiteRT itself
    has are left out. Raises: FormatError."""
    flat = FlatBuffer(file, start, visits)
    codes = flat.tables(flat.root(), _MODEL_CODES)
    found = []
    for number in range(codes.count):
        code = codes[number]
        # Newer runtimes take the larger of the two, older ones know the first alone.
        builtin = (flat.i8(code, _CODE_DEPRECATED), flat.u32(code, _CODE_BUILTIN))
        if _CUSTOM in builtin:
            found.append(flat.text(code, _CODE_NAME))
    return [one for one in dict.fromkeys(found) if one not in _KNOWN_CUSTOM]


def tflite_models(file: ModelFile) -> Iterator[int]:
    """Where in a file, beyond its begin, a TFLite model could begin: in bundles and packs."""
    at = _IDENTIFIER_AT
    while (at := file.data.find(TFLITE, at + 1)) >= 0:
        yield at - _IDENTIFIER_AT


def ort_operators(file: ModelFile, visits: int = VISITS_MAX) -> set[tuple[str, str]]:
    """Domain and type of an .ort model's operators, wherever they stand. Raises: FormatError."""
    flat = FlatBuffer(file, visits=visits)
    model = flat.child(flat.root(), _SESSION_MODEL)
    if model is None:
        raise file.damaged(0, "an .ort file without a model")
    found = set()
    graph = flat.child(model, _MODEL_GRAPH)
    waiting = [] if graph is None else [graph]
    while waiting:  # graphs within attributes of nodes; one that stands in many is charged so often
        nodes = flat.tables(waiting.pop(), _GRAPH_NODES)
        for number in range(nodes.count):
            node = nodes[number]
            found.add((flat.text(node, _NODE_DOMAIN), flat.text(node, _NODE_TYPE)))
            waiting += _graphs_of(flat, node)
    return found


def _graphs_of(flat: FlatBuffer, node: Table) -> Iterator[Table]:
    attributes = flat.tables(node, _NODE_ATTRIBUTES)
    for number in range(attributes.count):
        attribute = attributes[number]
        own = flat.child(attribute, _ATTRIBUTE_GRAPH)
        if own is not None:
            yield own
        graphs = flat.tables(attribute, _ATTRIBUTE_GRAPHS)
        yield from (graphs[one] for one in range(graphs.count))
