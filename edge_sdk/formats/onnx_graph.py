"""The walk through the graphs of an ONNX model: every place where a tensor can stand.

Initializers, also sparse ones, of the main graph and of subgraphs (attributes of nodes),
attributes that are tensors (Constant nodes), functions and their defaults, training graphs.
Graphs nest; those still to be walked wait in a list, so nothing recurses.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_sdk.base import FormatError
from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.onnx_tensor import StoredTensor, read_tensor
from edge_sdk.formats.wire import LEN, NAME_BYTES_MAX, Field, Wire, tag_of

_NODE = tag_of(1, LEN)
_INITIALIZER = tag_of(5, LEN)
_SPARSE_INITIALIZER = tag_of(15, LEN)
_INPUT = tag_of(11, LEN)
_OUTPUT = tag_of(12, LEN)
_GRAPH_WANTED = frozenset({_NODE, _INITIALIZER, _SPARSE_INITIALIZER, _INPUT, _OUTPUT})

_NODE_OUTPUT = tag_of(2, LEN)
_NODE_ATTRIBUTE = tag_of(5, LEN)
_NODE_WANTED = frozenset({_NODE_OUTPUT, _NODE_ATTRIBUTE})

_ATTRIBUTE_NAME = tag_of(1, LEN)
_ATTRIBUTE_TENSOR = tag_of(5, LEN)
_ATTRIBUTE_GRAPH = tag_of(6, LEN)
_ATTRIBUTE_SPARSE = tag_of(22, LEN)
_ATTRIBUTE_TENSORS = tag_of(10, LEN)
_ATTRIBUTE_GRAPHS = tag_of(11, LEN)
_ATTRIBUTE_SPARSES = tag_of(23, LEN)
_SINGLE = frozenset({_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_SPARSE})
_ATTRIBUTE_WANTED = _SINGLE | {
    _ATTRIBUTE_NAME,
    _ATTRIBUTE_TENSORS,
    _ATTRIBUTE_GRAPHS,
    _ATTRIBUTE_SPARSES,
}

_SPARSE_VALUES = tag_of(1, LEN)
_SPARSE_INDICES = tag_of(2, LEN)
_SPARSE_WANTED = frozenset({_SPARSE_VALUES, _SPARSE_INDICES})

_FUNCTION_NAME = tag_of(1, LEN)
_FUNCTION_NODE = tag_of(7, LEN)
_FUNCTION_DOMAIN = tag_of(10, LEN)
_FUNCTION_DEFAULT = tag_of(11, LEN)
_FUNCTION_WANTED = frozenset({_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_DEFAULT})

_TRAINING_WANTED = frozenset({tag_of(1, LEN), tag_of(2, LEN)})

# protobuf's parsers stop at 100 messages inside each other; a graph in a graph is three.
_DEPTH_MAX = 32
_ITEMS_MAX = 250_000
_NAMES_BYTES_MAX = 64 << 20


class Scope(NamedTuple):
    """Where a tensor's name counts: the nodes around it, ``depth`` graphs inside each other.

    Labels are joined only when a name is needed: many graphs share the long ones.
    """

    outer: Scope | None
    label: str
    depth: int

    def within(self, label: str) -> Scope:
        return Scope(self, label, self.depth)

    def graph(self, label: str) -> Scope:
        return Scope(self, label, self.depth + 1)

    def qualify(self, name: str) -> str:
        labels = [name]
        scope: Scope | None = self
        while scope:
            labels.append(scope.label)
            scope = scope.outer
        return "".join(reversed(labels))


class GraphWalk:
    """Collects tensors, inputs and outputs.

    Structure that breaks the wire format is raised at once (WireError). What is well-formed
    but not to be accepted is kept in ``problem``, the first only: whether the file is ONNX at
    all is known at its end.
    """

    def __init__(self, file: ModelFile, wire: Wire) -> None:
        self.wire = wire
        self.problem: FormatError | None = None
        self.tensors: list[StoredTensor] = []
        self.initializers: set[str] = set()
        self.inputs: list[Field] = []
        self.outputs: list[Field] = []
        self.main_fields = 0
        self._file = file
        self._waiting: list[tuple[Field, Scope]] = []
        self._items = 0
        self._names_bytes = 0

    def report(self, offset: int, what: str) -> None:
        self.problem = self.problem or self._file.damaged(offset, what)

    def text(self, field: Field) -> str:
        """A name; a bad one is reported and read as far as it goes."""
        if field.end - field.start > NAME_BYTES_MAX:
            self.report(field.start, f"a name of more than {NAME_BYTES_MAX} bytes")
            return ""
        try:
            return self.wire.content(field).decode()
        except UnicodeDecodeError:
            self.report(field.start, "a name that is not UTF-8")
            return ""

    def add_graph(self, field: Field, *, main: bool = False, scope: Scope | None = None) -> None:
        """Walks one graph; the graphs inside its nodes wait for ``finish``."""
        scope = scope or Scope(None, "", 0)
        for part in self.wire.fields(field.start, field.end, _GRAPH_WANTED):
            self.main_fields += main
            if part.tag == _NODE:
                self._node(part, scope)
            elif part.tag == _INITIALIZER:
                self._initializer(part, scope, main=main)
            elif part.tag == _SPARSE_INITIALIZER:
                self._sparse_initializer(part, scope, main=main)
            elif main and self._count(part):
                (self.inputs if part.tag == _INPUT else self.outputs).append(part)

    def add_training(self, field: Field) -> None:
        for number, graph in enumerate(
            self.wire.fields(field.start, field.end, _TRAINING_WANTED), start=1
        ):
            self._later(graph, Scope(None, f"training{number}/", 0))

    def add_function(self, field: Field) -> None:
        name = domain = ""
        nodes: list[Field] = []
        defaults: list[Field] = []
        for part in self.wire.fields(field.start, field.end, _FUNCTION_WANTED):
            if part.tag == _FUNCTION_NAME:
                name = self.text(part)
            elif part.tag == _FUNCTION_DOMAIN:
                domain = self.text(part)
            elif self._count(part):
                (nodes if part.tag == _FUNCTION_NODE else defaults).append(part)
        scope = Scope(None, f"{domain}::{name}/", 0)
        for part in nodes:
            self._node(part, scope)
        for part in defaults:
            self._attribute(part, scope, "")

    def finish(self) -> None:
        """Walks the graphs that wait, and those inside them."""
        while self._waiting:
            field, scope = self._waiting.pop()
            self.add_graph(field, scope=scope)

    def _node(self, field: Field, scope: Scope) -> None:
        output: str | None = None
        attributes = []
        for part in self.wire.fields(field.start, field.end, _NODE_WANTED):
            if part.tag == _NODE_ATTRIBUTE:
                attributes.append(part)
            elif output is None:
                output = self.text(part)
        for part in attributes:
            self._attribute(part, scope, output or "")

    def _attribute(self, field: Field, scope: Scope, owner: str) -> None:
        name = ""
        held = []
        single = set()
        for part in self.wire.fields(field.start, field.end, _ATTRIBUTE_WANTED):
            if part.tag == _ATTRIBUTE_NAME:
                name = self.text(part)
                continue
            if part.tag in single:
                # protobuf merges the two into one, which is not what stands in the file.
                self.report(part.start, "a value of an attribute given twice")
            if part.tag in _SINGLE:
                single.add(part.tag)
            if self._count(part):
                held.append(part)
        scope = scope.within(f"{owner}.{name}")
        for number, part in enumerate(held):
            label = "" if part.tag in _SINGLE else f"[{number}]"
            if part.tag in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                self._later(part, scope.graph(label + "/"))
            elif part.tag in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
                self._sparse(part, scope, label)
            else:
                self._keep(read_tensor(self.wire, part, self.text), scope, label)

    def _initializer(self, field: Field, scope: Scope, *, main: bool) -> None:
        if self._count(field):
            tensor = read_tensor(self.wire, field, self.text)
            if main:
                self.initializers.add(tensor.name)
            self._keep(tensor, scope, tensor.name)

    def _sparse_initializer(self, field: Field, scope: Scope, *, main: bool) -> None:
        """It has the name of its values."""
        name = ""
        for part in self.wire.fields(field.start, field.end, frozenset({_SPARSE_VALUES})):
            name = read_tensor(self.wire, part, self.text).name
        if main:
            self.initializers.add(name)
        self._sparse(field, scope, name)

    def _sparse(self, field: Field, scope: Scope, name: str) -> None:
        parts = set()
        for part in self.wire.fields(field.start, field.end, _SPARSE_WANTED):
            if part.tag in parts:
                self.report(part.start, "a part of a sparse tensor given twice")
            parts.add(part.tag)
            if self._count(part):
                label = name if part.tag == _SPARSE_VALUES else f"{name}.indices"
                self._keep(read_tensor(self.wire, part, self.text), scope, label)

    def _keep(self, tensor: StoredTensor, scope: Scope, name: str) -> None:
        qualified = scope.qualify(name)
        self._names_bytes += len(qualified)
        if self._names_bytes > _NAMES_BYTES_MAX:
            self.report(tensor.offset, "names too long in all")
        else:
            self.tensors.append(tensor.named(qualified))

    def _later(self, graph: Field, scope: Scope) -> None:
        if scope.depth > _DEPTH_MAX:
            self.report(graph.start, f"graphs nested more than {_DEPTH_MAX} deep")
        else:
            self._waiting.append((graph, scope))

    def _count(self, field: Field) -> bool:
        """Counts what takes memory here; false once it is more than any model has."""
        self._items += 1
        if self._items > _ITEMS_MAX:
            self.report(field.start, f"more than {_ITEMS_MAX} tensors, graphs, inputs and outputs")
            return False
        return True
