"""TFLite: a flatbuffer with the identifier TFL3, which alone makes a file one.

Weights lie in buffers that tensors name by number. Files over 2 GiB keep them behind the
flatbuffer, with offset and size from the model's first byte; LiteRT can also keep them in other
files. Further models may stand behind the first, in packs of assets for one.
Source: schema.fbs of LiteRT (field numbers below are its order of fields).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from edge_sdk.base import FormatError
from edge_sdk.formats.external_data import MissingFileError, UnsafePathError, locate
from edge_sdk.formats.flatbuffer import VISITS_MAX, FlatBuffer, Table, Tables
from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.tensor_map import (
    DTYPE_BITS,
    ModelFacts,
    TensorFact,
    TensorRange,
    packed_bytes,
)

_IDENTIFIER = b"TFL3"
_IDENTIFIER_AT = 4
# What looking for a model within a file is charged with, beside the tables that it visits.
_VISITS_OF_A_TRY = 1000
_DTYPES: Mapping[int, str] = MappingProxyType(
    {
        **{0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string"},
        **{6: "bool", 7: "int16", 8: "complex64", 9: "int8", 10: "float64", 11: "complex128"},
        **{12: "uint64", 13: "resource", 14: "variant", 15: "uint32", 16: "uint16"},
        **{17: "int4", 18: "bfloat16", 19: "int2", 20: "uint4"},
        **{21: "float8_e4m3fn", 22: "float8_e5m2"},
    }
)
_ELEMENTS_MAX = 1 << 60

# Fields of the tables, by their number in the schema.
_MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_GROUPS, _MODEL_EXTERNAL = 2, 4, 8, 9
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 0, 1, 2, 3
_TENSOR_SPARSITY, _TENSOR_SIGNATURE, _TENSOR_EXTERNAL = 6, 7, 10
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_EXTERNAL_ID, _EXTERNAL_GROUP, _EXTERNAL_OFFSET, _EXTERNAL_LENGTH = 0, 1, 2, 3
_GROUP_NAME = 0

Place = tuple[str, int, int]  # file, offset, length


def read(file: ModelFile) -> Contents | None:
    """Facts and tensor ranges; None where the file is something else. Raises: FormatError."""
    if file.data[_IDENTIFIER_AT : _IDENTIFIER_AT + len(_IDENTIFIER)] != _IDENTIFIER:
        return None
    model = _Model(file, FlatBuffer(file))
    tensors = model.tensors()
    behind = max((one.end for one in tensors if one.file == file.path.name), default=0)
    return Contents(
        tensors=[*tensors, *models_within(file, behind, first=1)],
        external_files=model.external_files,
        facts=model.facts(),
    )


def models_within(file: ModelFile, start: int, *, first: int = 0) -> list[TensorRange]:
    """The tensors of models that stand in a file from ``start`` on, whatever else is there.

    Names tell the models by their numbers, from ``first`` on; that of number 0 is not said.
    What only looks like a model is passed over.
    """
    found: list[TensorRange] = []
    visits, number = VISITS_MAX, first
    at = start + _IDENTIFIER_AT
    while visits > 0 and (at := file.data.find(_IDENTIFIER, at)) >= 0:
        flat = FlatBuffer(file, at - _IDENTIFIER_AT, visits)
        at += len(_IDENTIFIER)
        with suppress(FormatError):
            tensors = _Model(file, flat).tensors()
            scope = f"model{number}/" if number else ""
            own = [one for one in tensors if one.file == file.path.name]
            found += (replace(one, name=scope + one.name) for one in own)
            number += bool(own)
            at = max([at, *(one.end for one in own)])
        visits = flat.visits_left - _VISITS_OF_A_TRY
    return found


class _Model:
    """The table Model and what hangs on it."""

    def __init__(self, file: ModelFile, flat: FlatBuffer) -> None:
        self.external_files: dict[str, int] = {}
        self._file = file
        self._flat = flat
        self._root = self._flat.root()
        self._graphs = self._flat.tables(self._root, _MODEL_SUBGRAPHS)
        buffers = self._flat.tables(self._root, _MODEL_BUFFERS)
        self._places = [self._buffer_place(buffers[number]) for number in range(buffers.count)]
        self._external: dict[int, Place | None] | None = None

    def tensors(self) -> list[TensorRange]:
        """Tensors of all subgraphs that have values; those that share a buffer all of them."""
        found = []
        for number in range(self._graphs.count):
            graph = self._graphs[number]
            scope = f"subgraph{number}/" if number else ""
            tensors = self._flat.tables(graph, _GRAPH_TENSORS)
            for index in range(tensors.count):
                tensor = self._range(tensors[index], scope)
                if tensor:
                    found.append(tensor)
        return found

    def facts(self) -> ModelFacts:
        """Inputs and outputs of the first subgraph, which is the one that is run."""
        if not self._graphs.count:
            return ModelFacts()
        graph = self._graphs[0]
        tensors = self._flat.tables(graph, _GRAPH_TENSORS)
        return ModelFacts(
            inputs=self._named(graph, _GRAPH_INPUTS, tensors),
            outputs=self._named(graph, _GRAPH_OUTPUTS, tensors),
        )

    def _named(self, graph: Table, slot: int, tensors: Tables) -> tuple[TensorFact, ...]:
        facts = []
        for index in self._flat.integers(graph, slot) or ():
            if not 0 <= index < tensors.count:
                raise self._file.damaged(
                    graph.start, f"an input or output is tensor {index} of {tensors.count}"
                )
            facts.append(self._fact(tensors[index]))
        return tuple(facts)

    def _fact(self, tensor: Table) -> TensorFact:
        shape = self._flat.integers(tensor, _TENSOR_SHAPE) or ()
        signature = self._flat.integers(tensor, _TENSOR_SIGNATURE)
        if signature is not None and len(signature) == len(shape):
            shape = signature
        return TensorFact(
            name=self._flat.text(tensor, _TENSOR_NAME),
            dtype=_DTYPES.get(self._flat.i8(tensor, _TENSOR_TYPE), "undefined"),
            shape=tuple(max(size, -1) for size in shape),
        )

    def _range(self, tensor: Table, scope: str) -> TensorRange | None:
        dtype = _DTYPES.get(self._flat.i8(tensor, _TENSOR_TYPE), "undefined")
        place = self._place(tensor)
        if place is None or dtype not in DTYPE_BITS:
            return None
        file, offset, length = place
        shape = self._flat.integers(tensor, _TENSOR_SHAPE) or ()
        if self._flat.child(tensor, _TENSOR_SPARSITY):
            # Only the values that are not zero are stored: a list of them.
            shape = (length * 8 // DTYPE_BITS[dtype],)
        if min(shape, default=0) < 0 or math.prod(shape) > _ELEMENTS_MAX:
            raise self._file.damaged(tensor.start, "the shape of a tensor is impossible")
        if packed_bytes(dtype, shape) != length:
            return None
        name = scope + self._flat.text(tensor, _TENSOR_NAME)
        return TensorRange(
            name=name, dtype=dtype, shape=shape, file=file, offset=offset, length=length
        )

    def _place(self, tensor: Table) -> Place | None:
        outside = self._flat.u32(tensor, _TENSOR_EXTERNAL)
        if outside:
            return self._external_place(tensor, outside)
        number = self._flat.u32(tensor, _TENSOR_BUFFER)
        if number < len(self._places):
            return self._places[number]
        if number == 0:  # by convention an empty buffer, which may be left out
            return None
        what = f"a tensor has buffer {number} of {len(self._places)}"
        raise self._file.damaged(tensor.start, what)

    def _buffer_place(self, buffer: Table) -> Place | None:
        """Within the flatbuffer, or behind it where ``offset`` is above 1 (1 is a mark)."""
        start, length = self._flat.vector(buffer, _BUFFER_DATA, 1)
        offset = self._flat.u64(buffer, _BUFFER_OFFSET)
        if offset > 1:
            start, length = self._flat.base + offset, self._flat.u64(buffer, _BUFFER_SIZE)
            if start + length > self._file.size_bytes:
                what = f"truncated: a buffer is bytes {start} to {start + length}"
                raise self._file.damaged(buffer.start, what)
        return (self._file.path.name, start, length) if length else None

    def _external_place(self, tensor: Table, identity: int) -> Place | None:
        if self._external is None:
            self._external = self._external_places()
        if identity not in self._external:
            raise self._file.damaged(tensor.start, f"there is no external buffer {identity}")
        return self._external[identity]

    def _external_places(self) -> dict[int, Place | None]:
        groups = self._flat.tables(self._root, _MODEL_GROUPS)
        buffers = self._flat.tables(self._root, _MODEL_EXTERNAL)
        names: dict[int, str | None] = {}
        places: dict[int, Place | None] = {}
        for number in range(buffers.count):
            buffer = buffers[number]
            group = self._flat.u32(buffer, _EXTERNAL_GROUP)
            if group >= groups.count:
                what = f"an external buffer is of group {group} of {groups.count}"
                raise self._file.damaged(buffer.start, what)
            if group not in names:
                names[group] = self._group_file(groups[group])
            identity = self._flat.u32(buffer, _EXTERNAL_ID)
            places[identity] = self._within(buffer, names[group])
        return places

    def _group_file(self, group: Table) -> str | None:
        """The file of a group; None where the application brings it under another name."""
        name = self._flat.text(group, _GROUP_NAME)
        try:
            relative, size = locate(self._file.path.parent, name)
        except MissingFileError:
            return None
        except UnsafePathError as error:
            what = f"external buffers in {name[:200]!r} are refused: {error}"
            raise self._file.damaged(group.start, what) from None
        if relative == self._file.path.name:
            raise self._file.damaged(group.start, "external buffers in the model file itself")
        self.external_files[relative] = size
        return relative

    def _within(self, buffer: Table, file: str | None) -> Place | None:
        offset = self._flat.u64(buffer, _EXTERNAL_OFFSET)
        length = self._flat.u64(buffer, _EXTERNAL_LENGTH)
        if file is None or not length:
            return None
        size = self.external_files[file]
        if offset + length > size:
            what = f"an external buffer is bytes {offset} to {offset + length} of {file!r}"
            raise self._file.damaged(buffer.start, f"{what}, which has {size}")
        return file, offset, length


FORMAT = Format(name="tflite", read=read)
