"""Small TFLite models for tests, written table by table with the flatbuffers package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np

FLOAT32, INT8 = 0, 9
ADD = 0


@dataclass
class Weights:
    """``place``: inside the flatbuffer, behind it (``appended``), or in an external group."""

    name: str
    values: np.ndarray
    dtype: int = FLOAT32
    shape: Sequence[int] | None = None
    is_sparse: bool = False
    external: tuple[str, int] | None = None  # file name of the group, offset


@dataclass
class Code:
    """An operator that the model names beside ADD; 32 is a custom one. ``old``: as the schema
    had it first."""

    name: str | None
    builtin: int = 32
    old: int = 32


@dataclass
class Shape:
    inputs: Sequence[int] = (1, 4)
    signature: Sequence[int] | None = None
    second_graph: Sequence[Weights] = field(default_factory=list)
    codes: Sequence[Code] = ()


def add_model(
    weights: Sequence[Weights], *, shape: Shape | None = None, append: bool = False
) -> bytes:
    """``y = x + w`` with the first of ``weights``; the others stand unused beside it.

    ``append`` keeps the values behind the flatbuffer, as files over 2 GiB do.
    """
    tail = 0
    places: dict[int, tuple[int, int]] = {}
    while True:  # once to learn the flatbuffer's size, once with the offsets that follow
        flat = _flatbuffer(weights, shape or Shape(), places if append else None)
        if not append or tail == len(flat):
            break
        tail = len(flat)
        position = tail
        for number, one in enumerate(weights):
            places[number] = (position, one.values.nbytes)
            position += one.values.nbytes
    return flat + (b"".join(one.values.tobytes() for one in weights) if append else b"")


def _flatbuffer(
    weights: Sequence[Weights], shape: Shape, places: dict[int, tuple[int, int]] | None
) -> bytes:
    builder = flatbuffers.Builder(1024)
    everything = [*weights, *shape.second_graph]
    buffers = [_table(builder, 3, [])]
    for number, one in enumerate(everything):
        buffers.append(
            _buffer(builder, one, None if places is None else places.get(number, (2, 0)))
        )
    groups = sorted({one.external[0] for one in everything if one.external})
    group_tables = [_table(builder, 1, [_offset(0, builder.CreateString(name))]) for name in groups]
    externals = [
        _external(builder, number, groups.index(one.external[0]), one)
        for number, one in enumerate(everything, start=1)
        if one.external
    ]
    graphs = [_graph(builder, weights, 1, shape, with_operator=True)]
    if shape.second_graph:
        graphs.append(
            _graph(builder, shape.second_graph, 1 + len(weights), shape, with_operator=False)
        )
    codes = [_table(builder, 4, [lambda: builder.PrependInt32Slot(2, 1, 0)])]
    codes += [_code(builder, one) for one in shape.codes]
    model = _table(
        builder,
        10,
        [
            lambda: builder.PrependUint32Slot(0, 3, 0),
            _offset(1, _vector(builder, codes)),
            _offset(2, _vector(builder, graphs)),
            _offset(3, builder.CreateString("made by hand")),
            _offset(4, _vector(builder, buffers)),
            _offset(8, _vector(builder, group_tables)),
            _offset(9, _vector(builder, externals)),
        ],
    )
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def _code(builder: flatbuffers.Builder, one: Code) -> int:
    fills: list[Fill] = [
        lambda: builder.PrependInt8Slot(0, one.old, 0),
        lambda: builder.PrependInt32Slot(3, one.builtin, 0),
    ]
    if one.name is not None:
        fills.append(_offset(1, builder.CreateString(one.name)))
    return _table(builder, 4, fills)


Fill = Callable[..., None]


def _offset(slot: int, target: int) -> Callable[[flatbuffers.Builder], None]:
    return lambda builder: builder.PrependUOffsetTRelativeSlot(slot, target, 0)


def _table(builder: flatbuffers.Builder, slots: int, fills: Sequence[Fill]) -> int:
    builder.StartObject(slots)
    for fill in fills:
        fill(builder) if fill.__code__.co_argcount else fill()
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, targets: Sequence[int]) -> int:
    builder.StartVector(4, len(targets), 4)
    for target in reversed(targets):
        builder.PrependUOffsetTRelative(target)
    return builder.EndVector()


def _integers(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return builder.CreateNumpyVector(np.asarray(values, np.int32))


def _buffer(builder: flatbuffers.Builder, one: Weights, place: tuple[int, int] | None) -> int:
    if one.external:
        return _table(builder, 3, [])
    if place:
        return _table(
            builder,
            3,
            [
                lambda: builder.PrependUint64Slot(1, place[0], 0),
                lambda: builder.PrependUint64Slot(2, place[1], 0),
            ],
        )
    builder.StartVector(1, one.values.nbytes, 16)
    builder.head -= one.values.nbytes
    builder.Bytes[builder.head : builder.head + one.values.nbytes] = one.values.tobytes()
    data = builder.EndVector()
    return _table(builder, 3, [_offset(0, data)])


def _external(builder: flatbuffers.Builder, identity: int, group: int, one: Weights) -> int:
    assert one.external
    offset = one.external[1]
    return _table(
        builder,
        5,
        [
            lambda: builder.PrependUint32Slot(0, identity, 0),
            lambda: builder.PrependUint32Slot(1, group, 0),
            lambda: builder.PrependUint64Slot(2, offset, 0),
            lambda: builder.PrependUint64Slot(3, one.values.nbytes, 0),
        ],
    )


def _tensor(
    builder: flatbuffers.Builder,
    name: str,
    shape: Sequence[int],
    *,
    dtype: int = FLOAT32,
    buffer: int = 0,
    signature: Sequence[int] | None = None,
    external: int = 0,
    is_sparse: bool = False,
) -> int:
    fills: list[Fill] = [
        _offset(0, _integers(builder, shape)),
        lambda: builder.PrependInt8Slot(1, dtype, 0),
        lambda: builder.PrependUint32Slot(2, buffer, 0),
        _offset(3, builder.CreateString(name)),
        lambda: builder.PrependUint32Slot(10, external, 0),
    ]
    if signature is not None:
        fills.append(_offset(7, _integers(builder, signature)))
    if is_sparse:
        fills.append(_offset(6, _table(builder, 3, [])))
    return _table(builder, 11, fills)


def _graph(
    builder: flatbuffers.Builder,
    weights: Sequence[Weights],
    first_buffer: int,
    shape: Shape,
    *,
    with_operator: bool,
) -> int:
    tensors = [
        _tensor(builder, "x", shape.inputs, signature=shape.signature),
        _tensor(builder, "y", shape.inputs, signature=shape.signature),
    ]
    for number, one in enumerate(weights, start=first_buffer):
        tensors.append(
            _tensor(
                builder,
                one.name,
                one.values.shape if one.shape is None else one.shape,
                dtype=one.dtype,
                buffer=0 if one.external else number,
                external=number if one.external else 0,
                is_sparse=one.is_sparse,
            )
        )
    operators = []
    if with_operator:
        options = _table(builder, 2, [])
        fills: list[Fill] = [
            _offset(1, _integers(builder, [0, 2])),
            _offset(2, _integers(builder, [1])),
            lambda: builder.PrependUint8Slot(3, 11, 0),
            _offset(4, options),
        ]
        operators.append(_table(builder, 5, fills))
    return _table(
        builder,
        5,
        [
            _offset(0, _vector(builder, tensors)),
            _offset(1, _integers(builder, [0])),
            _offset(2, _integers(builder, [1])),
            _offset(3, _vector(builder, operators)),
            _offset(4, builder.CreateString("main")),
        ],
    )
