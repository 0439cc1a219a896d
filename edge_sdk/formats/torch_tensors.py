"""Tensors in what a pickle of PyTorch would make: names, and ranges of storages.

A storage is bytes that the file keeps outside of the pickle; a tensor is a shape with strides
over a part of one. It is known by the arguments it is rebuilt from, whatever rebuilds it. Its
name is the path of keys and attributes to it, spelled as in a state_dict.
Source: torch/serialization.py, torch/_utils.py (``_rebuild_tensor_v2`` and its siblings)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.pickle_reader import Call, Dictionary, Global, Persistent
from edge_sdk.formats.tensor_map import DTYPE_BITS, TensorRange, packed_bytes

_STORAGE_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16"},
        **{"BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32"},
        **{"ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8"},
        **{"BoolStorage": "bool", "ComplexFloatStorage": "complex64"},
        **{"ComplexDoubleStorage": "complex128", "QInt8Storage": "int8"},
        **{"QUInt8Storage": "uint8", "QInt32Storage": "int32", "UntypedStorage": "uint8"},
        **{"QUInt4x2Storage": "uint8", "QUInt2x4Storage": "uint8"},
    }
)
# torch.nn.Module keeps what it has under these; a state_dict does not name them.
_UNNAMED = frozenset({"_parameters", "_buffers", "_modules"})
_DEPTH_MAX = 400
_DIMENSIONS_MAX = 64
_SEGMENT_CHARS_MAX = 200
_NAMES_CHARS_MAX = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A storage as a pickle names it. ``first``: its first element within the one of ``key``,
    ``count`` that one's elements."""

    key: str
    dtype: str
    count: int
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor over elements of a storage, from ``first`` of the storage's key on."""

    name: str
    dtype: str
    storage: Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Tensors, and storages by key, also those of which no tensor is known."""

    tensors: list[StoredTensor] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)


# Names above, the outermost last.
Path = tuple[Any, str] | None
_END = object()
_WALKED = (tuple, list, Dictionary, Call, Persistent)


def find_tensors(file: ModelFile, at: int, root: object, prefix: str = "") -> Found:
    """All tensors below ``root``, in the order of the pickle at ``at``, each object once.

    Raises: FormatError.
    """
    found = Found()
    seen: set[int] = set()
    named_chars = 0
    levels: list[Iterator[tuple[object, Path]]] = [iter([(root, None)])]
    while levels:
        value, path = next(levels[-1], (_END, None))
        if value is _END:
            levels.pop()
            continue
        if not isinstance(value, _WALKED) or id(value) in seen:
            continue
        seen.add(id(value))
        if len(levels) > _DEPTH_MAX:
            raise file.damaged(at, "objects nested deeper than in any model; refused")
        tensor = _tensor(value, path, prefix) if isinstance(value, tuple) else None
        if tensor is not None:
            found.tensors.append(tensor)
            named_chars += len(tensor.name)
        if named_chars > _NAMES_CHARS_MAX:
            raise file.damaged(at, "names longer than in any model; refused")
        storage = _storage(value)
        if storage is not None:
            found.storages.setdefault(storage.key, storage)
        levels.append(_children(value, path))
    return found


def _storage(value: object) -> Storage | None:
    """A storage from what a pickle calls it; None where it is something else."""
    known = value.id if isinstance(value, Persistent) else None
    if not isinstance(known, tuple) or len(known) < 5 or known[0] != "storage":
        return None
    _, kind, key, _, count, *view = known
    if not isinstance(kind, Global) or not isinstance(key, str) or not _is_size(count):
        return None
    first = 0
    if view and isinstance(view[0], tuple) and len(view[0]) == 3 and _is_size(view[0][1]):
        first = view[0][1]
    dtype = _STORAGE_DTYPES.get(kind.name, "")
    return Storage(key=key, dtype=dtype, count=count, first=first)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 60


def _is_sizes(value: object) -> bool:
    return isinstance(value, tuple) and len(value) <= _DIMENSIONS_MAX and all(map(_is_size, value))


def _tensor(value: tuple[object, ...], path: Path, prefix: str) -> StoredTensor | None:
    """A tensor from the arguments that it is rebuilt from; None where they are something else."""
    storage = _storage(value[0]) if len(value) >= 4 else None
    if storage is None or not storage.dtype:
        return None
    first, shape, strides = value[1:4]
    if not _is_size(first) or not _is_sizes(shape) or not _is_sizes(strides):
        return None
    assert isinstance(first, int)
    assert isinstance(shape, tuple)
    assert isinstance(strides, tuple)
    if len(shape) != len(strides):
        return None
    stated = [one.name for one in value[4:] if isinstance(one, Global) and one.module == "torch"]
    return StoredTensor(
        name=prefix + _name(path),
        dtype=next((one for one in stated if one in DTYPE_BITS), storage.dtype),
        storage=storage,
        first=storage.first + first,
        shape=shape,
        strides=strides,
    )


def _children(value: object, path: Path) -> Iterator[tuple[object, Path]]:
    """What an object holds, with the path to it. Arguments and state have no names."""
    unnamed: Sequence[object] = ()
    items: Sequence[tuple[object, object]] = ()
    parts: Sequence[object] = ()
    if isinstance(value, Call):
        unnamed = (*_arguments(value), *_state(value))
        items, parts = value.items, value.parts
    elif isinstance(value, Dictionary):
        items = value.items
    elif isinstance(value, list | tuple):
        parts = value
    yield from ((one, path) for one in unnamed)
    yield from ((one, _below(path, key)) for key, one in items)
    yield from ((one, _below(path, number)) for number, one in enumerate(parts))


def _arguments(call: Call) -> tuple[object, ...]:
    """What a call was given; as one where a tensor is rebuilt from it."""
    arguments = call.arguments
    if isinstance(arguments, tuple) and arguments and _storage(arguments[0]) is None:
        return arguments
    return (arguments,)


def _state(call: Call) -> tuple[object, ...]:
    """Its attributes, beside those that stand in slots."""
    return call.state if isinstance(call.state, tuple) else (call.state,)


def _below(path: Path, key: object) -> Path:
    if isinstance(key, str) and key in _UNNAMED:
        return path
    segment = str(key)[:_SEGMENT_CHARS_MAX] if isinstance(key, str | int) else "?"
    return path, segment


def _name(path: Path) -> str:
    segments = []
    while path is not None:
        path, segment = path
        segments.append(segment)
    return ".".join(reversed(segments))


def tensor_range(
    file: ModelFile, tensor: StoredTensor, offset: int, length: int
) -> TensorRange | None:
    """Where a tensor lies whose storage is ``length`` bytes from ``offset`` on.

    A tensor whose axes lie in another order has its shape in theirs; one that leaves elements
    out, or repeats them, is all between its first and last, in one dimension. None if it is
    empty. Raises: FormatError.
    """
    if 0 in tensor.shape:
        return None
    shape, count = _in_memory(tensor.shape, tensor.strides)
    begin = packed_bytes(tensor.dtype, (tensor.first,))
    end = begin + packed_bytes(tensor.dtype, (count,))
    if end > length:
        what = f"tensor {tensor.name[:200]!r} ends at byte {end} of a storage of {length}"
        raise file.damaged(offset, what, tensor=tensor.name)
    return TensorRange(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=shape,
        file=file.path.name,
        offset=offset + begin,
        length=end - begin,
    )


def _in_memory(shape: Sequence[int], strides: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The shape in the order of the bytes, and the count of elements."""
    count = math.prod(shape)
    axes = [(stride, size) for stride, size in zip(strides, shape, strict=True) if size > 1]
    ordered = sorted(axes, key=lambda axis: -axis[0])
    expected = count
    for stride, size in ordered:
        expected //= size
        if stride != expected:
            span = 1 + sum((size - 1) * stride for stride, size in axes)
            return (span,), span
    in_order = tuple(size for _, size in ordered)
    return (tuple(shape) if ordered == axes else in_order), count
