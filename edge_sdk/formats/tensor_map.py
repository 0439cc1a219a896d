"""The values that ``open_model`` answers with. Pure: no file here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

# Bits per element, by the name that NumPy (or ml_dtypes, where NumPy has none) gives a type.
# Types below eight bits lie packed, the first element in the lowest bits.
DTYPE_BITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("bool", "int8", "uint8"), 8),
        **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 16),
        **dict.fromkeys(("int32", "uint32", "float32"), 32),
        **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 64),
        "complex128": 128,
        **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz"), 8),
        **dict.fromkeys(("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"), 8),
        **dict.fromkeys(("float6_e2m3fn", "float6_e3m2fn"), 6),
        **dict.fromkeys(("int4", "uint4", "float4_e2m1fn"), 4),
        **dict.fromkeys(("int2", "uint2"), 2),
    }
)


def packed_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor as models store it. Raises: KeyError for a type not in DTYPE_BITS."""
    return -(-math.prod(shape) * DTYPE_BITS[dtype] // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRange:
    """One tensor's bytes: little-endian, row-major, packed, never empty.

    ``file`` is a POSIX path relative to the model file's folder: the model file itself or a
    file of external data.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFact:
    """An input or output of a model. A dimension of -1 is dynamic.

    ``dtype`` is a name of DTYPE_BITS, ``string``, or for what no tensor can carry one of
    ``sequence``, ``map``, ``optional``, ``sparse``, ``resource``, ``variant``, ``opaque``,
    ``undefined``. Where the model does not even say the rank, ``rank_known`` is false and
    ``shape`` empty.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    rank_known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a model says about itself. ``opsets``: version by domain, ``""`` the standard one."""

    inputs: tuple[TensorFact, ...] = ()
    outputs: tuple[TensorFact, ...] = ()
    ir_version: int | None = None
    opsets: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMap:
    """A model file and where its tensors lie.

    ``tensors`` are sorted by file and offset, do not overlap, have unique names and lie inside
    files of the sizes seen when the map was made. ``external_files`` are further files, in
    the model file's folder, that the model needs.
    """

    format: str
    path: Path
    size_bytes: int
    tensors: tuple[TensorRange, ...]
    external_files: tuple[str, ...] = ()
    facts: ModelFacts | None = None


def arrange(tensors: Iterable[TensorRange]) -> tuple[TensorRange, ...]:
    """Sorts, drops what overlaps (tensors that share bytes: the first stays), names uniquely."""
    kept: list[TensorRange] = []
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    for tensor in sorted(tensors, key=lambda one: (one.file, one.offset, -one.length, one.name)):
        last = kept[-1] if kept else None
        if not tensor.length or (last and last.file == tensor.file and tensor.offset < last.end):
            continue
        name = tensor.name
        while name in taken:
            seen[tensor.name] += 1
            name = f"{tensor.name}#{seen[tensor.name] + 1}"
        taken.add(name)
        kept.append(tensor if name == tensor.name else replace(tensor, name=name))
    return tuple(kept)
